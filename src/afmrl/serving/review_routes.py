"""Reviewing a match: the next pair, verdicts, undo."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from afmrl.matching.verdicts import Judgment, Verdict
from afmrl.serving.answers import OfferOut, ReasonsOut, offer_out
from afmrl.serving.inputs import Id, Strict
from afmrl.serving.offer_routes import PREFIX
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal
from afmrl.serving.review import ReviewPair, ReviewQueue
from afmrl.serving.service import Service

MOST_SKIPPED = 100
Who = Annotated[str, Field(max_length=100, description="The reviewer.")]


class VerdictOut(BaseModel):
    """An entry of the log."""

    number: int
    when: str
    who: str
    left: str
    right: str
    verdict: Judgment | Literal["undone"]
    note: str


class PrecisionOut(BaseModel):
    """Share of right ones among the pairs that the match calls the same product, by a random sample of them."""

    judged: int
    mean: float | None = Field(description="null: none was judged.")
    low: float
    high: float


class ReviewProgress(BaseModel):
    """How far the review is."""

    judged: int
    left: int
    precision: PrecisionOut


class PairOut(BaseModel):
    """Two offers, and what the match says of them."""

    left: OfferOut
    right: OfferOut
    probability: float
    same: bool = Field(description="Whether the match has both in one group.")
    reasons: ReasonsOut


class ReviewAnswer(BaseModel):
    """The next pair, or null where all are judged."""

    pair: PairOut | None
    progress: ReviewProgress


class VerdictRequest(Strict):
    """What a reviewer says of a pair."""

    left: Id
    right: Id
    verdict: Judgment
    who: Who = ""
    note: str = Field("", max_length=2000)
    after: int | None = Field(
        None,
        ge=0,
        description="Number of the last verdict on the pair that one knows of, 0: none. Another one there: 409.",
    )


class UndoRequest(Strict):
    """Whose last verdict is taken back."""

    who: Who = ""


class VerdictsAnswer(BaseModel):
    """The whole log."""

    verdicts: list[VerdictOut]


def review_routes(service: Service, queue: ReviewQueue) -> APIRouter:
    """The routes of a review."""
    router = APIRouter(prefix=PREFIX, tags=["review"], responses=refusals(PREFIX))

    @router.get("/review")
    def next_pair(skip: Annotated[list[str] | None, Query(max_length=2 * MOST_SKIPPED)] = None) -> ReviewAnswer:
        """The pair to judge next; `skip` names pairs to leave out, left and right in turn."""
        names = skip or []
        if len(names) % 2:
            raise Refusal(400, "skip: give left and right of each pair", param="skip")
        skipped = {(min(pair), max(pair)) for pair in zip(names[::2], names[1::2], strict=True)}
        found = queue.next(skipped)
        return ReviewAnswer(pair=_pair_out(service, found) if found else None, progress=_progress(queue))

    @router.get("/verdicts")
    def verdicts() -> VerdictsAnswer:
        """Every verdict, also those that were undone, in order."""
        return VerdictsAnswer(verdicts=[_verdict_out(entry) for entry in queue.log.entries()])

    @router.post("/verdicts")
    def judge(request: VerdictRequest) -> VerdictOut:
        """Judge a pair. Once this is answered the verdict is on the disk."""
        if request.left == request.right:
            raise Refusal(400, "left and right are one offer", param="right")
        if missing := {request.left, request.right} - set(service.get([request.left, request.right]).ids):
            raise Refusal(404, f"no offer of the index has the id {min(missing)[:100]!r}", param="left")
        pair = (request.left, request.right)
        return _verdict_out(queue.log.add(request.who, pair, request.verdict, note=request.note, after=request.after))

    @router.post("/verdicts/undo")
    def undo(request: UndoRequest) -> VerdictOut:
        """Take back one's last verdict; this is an entry of the log too."""
        return _verdict_out(queue.log.undo(request.who))

    return router


def _pair_out(service: Service, pair: ReviewPair) -> PairOut:
    rows = service.get([pair.left, pair.right])
    if len(rows.ids) < 2:  # deleted a moment ago
        raise Refusal(409, "an offer of the pair was deleted; ask again", retry_after=1)
    left, right = (offer_out(offer, of) for offer, of in zip(rows.offers, rows.key_attributes, strict=True))
    return PairOut(
        left=left,
        right=right,
        probability=pair.probability,
        same=pair.same,
        reasons=ReasonsOut.model_validate(pair.reasons),
    )


def _progress(queue: ReviewQueue) -> ReviewProgress:
    judged, share = queue.precision()
    mean = share.mean if judged else None
    precision = PrecisionOut(judged=judged, mean=mean, low=share.low, high=share.high)
    return ReviewProgress(judged=len(queue.log.current()), left=queue.num_left(), precision=precision)


def _verdict_out(entry: Verdict) -> VerdictOut:
    return VerdictOut.model_validate(entry, from_attributes=True)
