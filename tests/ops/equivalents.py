"""Mutants that no check can catch, because they compute the same: (rule, its changed line) -> the reason."""

TIE = "at a tie the first choice of where is taken, elsewhere > and >= are the same"
CHOSEN = "y is the operand that was chosen, so it compares with the other as its own operand does"

EQUIVALENT = {
    ("maximum.a", "return g * np.where(a == b, 0.5, a >= b)"): TIE,
    ("maximum.b", "return g * np.where(a == b, 0.5, b >= a)"): TIE,
    ("minimum.a", "return g * np.where(a == b, 0.5, a <= b)"): TIE,
    ("minimum.b", "return g * np.where(a == b, 0.5, b <= a)"): TIE,
    ("maximum.a", "return g * np.where(a == b, 0.5, y > b)"): CHOSEN,
    ("maximum.b", "return g * np.where(a == b, 0.5, y > a)"): CHOSEN,
    ("minimum.a", "return g * np.where(a == b, 0.5, y < b)"): CHOSEN,
    ("minimum.b", "return g * np.where(a == b, 0.5, y < a)"): CHOSEN,
    ("power.a", "return g * b * np.power(a, np.where(b == 0, 2, b - 1))"): "where b is 0 the factor b makes any finite power 0",
    ("relu.a", "return g * (y > 0)"): "max(a, 0) is positive exactly where a is",
    ("swapaxes.a", "return np.swapaxes(g, axis2, axis1)"): "exchanging two axes has no order",
    ("pad.a", "before = np.broadcast_to(width, (y.ndim, 2))[:, 0]"): "padding keeps the number of axes",
    ("take_along_axis.a", "places = list(np.ogrid[[slice(n) for n in g.shape]])"): "ogrid takes a list of slices as it takes a tuple",
    # fused
    ("attention.qkv", "keep = None if keep is None else keep"): "the kernel reads the mask in the order of its elements, whatever its shape",
    ("attention.qkv", "no keep = None if keep is None else keep.reshape(saved.weights.shape)"): "the same",
    ("attention.qkv", "if q.ndim > qkv[1].ndim:"): "query and key have equally many axes",
    ("self_attention.qkv", "dqkv = np.empty(qkv.shape, y.dtype)"): "y has the dtype of qkv",
    ("embedding.weight", "order = np.argsort(flat)"): "which of two equal ids comes first matters to rounding alone",
    ("embedding.weight", "dw[flat[order[starts]]] = np.add.reduceat(rows(g)[order] if g.ndim > 1 else g[None], starts)"): "reduceat sums over axis 0 by default",
    ("embedding.weight", "dw[flat[order[starts]]] = np.add.reduceat(rows(g)[order], starts, axis=0)"): "rows makes one row of a vector too",
    ("embedding.weight", "dw[flat[order[starts]]] = np.add.reduceat(rows(g)[order] if g.ndim >= 1 else g[None], starts, axis=0)"): "the same",
    ("layer_norm.x", "along = np.einsum('...c,...c->...', xhat, g)[..., None] / g.shape[-1]"): "the product of two numbers has no order",
    ("rms_norm.x", "g -= xhat * (np.einsum('...c,...c->...', xhat, g)[..., None] / g.shape[-1])"): "the product of two numbers has no order",
    ("linear.x", "return product(g, weight).reshape(x.shape)"): "a batch of products by one matrix is one product of all rows",
    ("linear.bias", "return rows(g)"): "the walk sums over the axes along which the bias was broadcast",
}
