"""Floor 6: reinforcement learning of language models, from rewards to gradients.

    logps        how probable the policy found each token          losses       PPO, GRPO and successors, value, REINFORCE
    kl           how far it has moved from a reference             preference   DPO and relatives
    advantages   how much better an action was than expected       rewards      Bradley-Terry reward models

Every loss is a function of tensors or arrays, (B, T) or (B,), with mask 1 at the tokens to learn from.
"""

from .advantages import (gae, group_advantages, overlong_penalty, penalize_missing_end, reinforce_plus_plus,
                         reinforce_plus_plus_baseline, remax, rloo, shape_rewards, whiten, zero_signal_fraction)
from .kl import AdaptiveKL, FixedKL, drift, kl
from .logps import completion_logps, completion_mask, entropy, last_index, token_logps
from .losses import aggregate, grpo_loss, ppo_loss, reinforce_loss, value_loss
from .preference import dpo_loss, kto_loss, orpo_loss, simpo_loss
from .rewards import Normaliser, accuracy, calibration, last_token_scores, ranking_loss, reward_loss
from .exact import enumerate
from .explain import explain_token
from .rollout import Rollout, sample, scored
from .rows import Rows, encode_rows, policy_logps, task_tokenizer
from .tasks import TASKS, Prompts, load_task
