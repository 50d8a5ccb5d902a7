"""The words that the loss's options may be, apart from the loss, which imports torch."""

from __future__ import annotations

from typing import Literal

Weighting = Literal["bm25", "cosine", "none"]
Scaling = Literal["raw", "row", "corpus"]
Rule = Literal["margin", "closeness", "agreement", "label"]
Combine = Literal["any", "all"]
Direction = Literal["query_to_doc", "doc_to_query"]
