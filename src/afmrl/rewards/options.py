"""The words that the reward's options may be, apart from the reward."""

from __future__ import annotations

from typing import Literal

RewardKind = Literal["recall@k", "reciprocal_rank", "ndcg@k", "rank_gain", "margin"]
RewardedPairs = Literal["true", "all"]
