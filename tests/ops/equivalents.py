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
    ("take_along_axis.a", "places = list(np.ogrid[[slice(n) for n in g.shape]])"): "ogrid takes a list of slices as it takes a tuple",
    # fused
    ("embedding.weight", "scatter_rows(rows(g), ids.reshape(-1), dw)"): "the kernel takes any array of whole numbers",
    ("linear.bias", "return rows(g)"): "the walk sums over the axes along which the bias was broadcast",
    ("linear.x", "return product(g, weight).reshape(x.shape)"): "a batch of products by one matrix is one product of all rows",
}
