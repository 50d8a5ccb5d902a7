"""No tensor of the loss is on another device than the embeddings: on a GPU that would be an error, or a slow copy.

There need not be a GPU for it: the embeddings are on "meta", where every operation that mixes devices fails.
"""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.losses import table
from afmrl.losses.agcl import MISSING, AttributeGuidedContrastiveLoss

BATCH, DIMENSION = 8, 16
ATTRIBUTES = [KeyAttributes.of({"color": "red" if n % 2 else "blue", "size": str(n % 3)}) for n in range(3 * BATCH)]
REFERENCE = np.random.default_rng(0).standard_normal((3 * BATCH, DIMENSION)).astype(np.float32)
ROWS = torch.arange(3 * BATCH).reshape(3, BATCH).T.clone()
EVERYTHING = {"rules": ("agreement", "margin", "closeness", "label"), "directions": ("query_to_doc", "doc_to_query")}


class Mixed(TorchDispatchMode):
    """Refuses every operation on tensors of two devices, but a copy from one to the other."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = set()
        for value in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor) and value.ndim:
                found.add(value.device.type)
        copies = ("aten::_to_copy", "aten::copy_")
        assert len(found) < 2 or func._schema.name in copies, f"{func} of tensors on {found}"
        return func(*args, **(kwargs or {}))


def numbers_of(rows):
    """What `table._numpy` reads off a device, of the rows that this test gave."""

    def read(found):
        if not found.is_meta:
            return found.numpy()
        if found.ndim == 1 and found.numel() > len(rows):  # those of all candidates
            return rows[:, 1:].T.reshape(-1).numpy()
        return rows.as_strided(found.shape, found.stride(), found.storage_offset()).numpy()

    return read


@pytest.mark.parametrize("mini_batch_size", [None, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighting": "cosine", "rules": ()},
        {"weighting": "none", "top_k_hardest": 3},
        {"scaling": "row", "gain": 2.0},
        {"scaling": "corpus", "weight_positive": False},
        EVERYTHING,
        {**EVERYTHING, "reference": REFERENCE, "combine": "all"},
        {**EVERYTHING, "num_positives": 2},
    ],
    ids=["default", "cosine", "top-k", "row", "corpus", "rules", "reference", "positives"],
)
def test_the_loss_stays_where_its_embeddings_are(options, mini_batch_size, monkeypatch):
    columns = 3 if "num_positives" in options else 2
    rows = ROWS[:, :columns].clone()
    if columns == 3:
        rows[2, 2] = MISSING
    monkeypatch.setattr(table, "_numpy", numbers_of(rows))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # "meta" has none
    loss = AttributeGuidedContrastiveLoss(
        torch.nn.Sequential(torch.nn.Linear(1, 1)), ATTRIBUTES, mini_batch_size=mini_batch_size,
        product_ids=[str(n // 2) for n in range(3 * BATCH)], **options,
    )  # fmt: skip
    reps = [[torch.empty(BATCH, DIMENSION, device="meta", requires_grad=True)] for _ in range(columns)]
    with Mixed():
        value = loss.calculate_loss(reps, rows, with_backward=mini_batch_size is not None)
        if mini_batch_size is None:
            value.backward()
    assert value.is_meta and all(column[0].grad.is_meta for column in reps)
    assert loss._statistics._sums and all(of.is_meta for of in loss._statistics._sums.values())


def test_the_test_would_see_a_tensor_on_the_wrong_device():
    with Mixed(), pytest.raises((AssertionError, RuntimeError)):
        torch.empty(3, device="meta") + torch.arange(3)


def test_rewards_and_search_have_no_tensors_at_all():
    """They are numpy: on a machine with GPUs too they neither wait for one nor take its memory."""
    script = (
        "import sys, numpy as np\n"
        "from afmrl.data.offer import Offer\n"
        "from afmrl.index.local.index import LocalIndex\n"
        "from afmrl.retrieval.exact import search\n"
        "from afmrl.rewards.retrieval_reward import RetrievalReward\n"
        "rows = np.eye(4, dtype=np.float32)\n"
        "relevant = [np.array([0]), np.array([1])]\n"
        "reward = RetrievalReward(lambda o, a: rows[: len(o)], [Offer('a', 'x')] * 2, rows, relevant)\n"
        "print(reward.score([0, 1], ['color: red', 'color: blue']).ranks.tolist(), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[1, 1] False", done.stdout + done.stderr
