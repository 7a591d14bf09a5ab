"""Floor 6: reinforcement learning of language models, from rewards to gradients.

    logps        how probable the policy found each token          losses       PPO, GRPO and successors, value, REINFORCE
    kl           how far it has moved from a reference             preference   DPO and relatives
    advantages   how much better an action was than expected       rewards      Bradley-Terry reward models

Every loss is a function of tensors or arrays, (B, T) or (B,), with mask 1 at the tokens to learn from. What trains with them:

    tasks, pairs        what is rewarded, and what is preferred    SFT, RewardTrainer, PPO, GRPO, DPO     the trainers
    fresh_model, warm_start     something to begin with            exact        sums over all completions, for tiny worlds
"""

from .advantages import (gae, group_advantages, overlong_penalty, penalize_missing_end, reinforce_plus_plus,
                         reinforce_plus_plus_baseline, remax, rloo, shape_rewards, whiten, zero_signal_fraction)
from .kl import AdaptiveKL, FixedKL, drift, kl
from .logps import completion_logps, completion_mask, entropy, last_index, token_logps
from .losses import aggregate, grpo_loss, ppo_loss, reinforce_loss, value_loss
from .preference import dpo_loss, kto_loss, orpo_loss, simpo_loss
from .rewards import Normaliser, accuracy, calibration, last_token_scores, ranking_loss, reward_loss
from .compare import watched
from .dpo import DPO, DPOConfig
from .exact import Tabular, enumerate
from .explain import explain_token
from .grpo import GRPO, GRPOConfig
from .loop import held_out, pass_at_k
from .pairs import Pairs, encode_pairs, judged_pairs
from .ppo import PPO, PPOConfig
from .reward_model import RewardConfig, RewardTrainer
from .rollout import Rollout, sample, scored
from .rows import Rows, encode_rows, policy_logps, task_tokenizer
from .scalar import ScalarModel
from .session import fresh_model, warm_start
from .sft import SFT, SFTConfig
from .tasks import TASKS, Graded, Prompts, load_task
