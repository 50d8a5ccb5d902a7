"""Offers, hits and reasons as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.image_cache import is_address
from afmrl.data.offer import Offer
from afmrl.index.backend import filter_value
from afmrl.matching.reasons import Reasons
from afmrl.matching.searchers import Hit

IMAGE_PATH = "/afmrl/v1/image?id="
_LINKS = ("link", "url")


class ComparedOut(BaseModel):
    """What two offers state of one key."""

    model_config = ConfigDict(populate_by_name=True)

    left: str
    right: str
    sources: list[str] = Field(alias="from", description="Of each: seller, generated or extracted.")


class StatedOut(BaseModel):
    """What one of two offers states alone."""

    model_config = ConfigDict(populate_by_name=True)

    value: str
    source: str = Field(alias="from")


class ReasonsOut(BaseModel):
    """Why two offers are called one product or not; what was asked for is left."""

    agree: dict[str, ComparedOut]
    differ: dict[str, ComparedOut]
    only_left: dict[str, StatedOut]
    only_right: dict[str, StatedOut]
    veto: list[str] = Field(description="Keys whose conflict keeps the two apart.")
    text: float = Field(description="What words and facts add to the score.")
    image: float | None = None
    embedding: float | None = None
    same_gtin: bool = False
    kept_apart: bool = False
    verdict: Literal["same", "different"] | None = Field(None, description="What reviewers' verdicts say or imply.")


class OfferOut(BaseModel):
    """An offer of the index."""

    id: str
    title: str
    description: str
    image: str | None = Field(description="Path of its image on this server.")
    category: str
    seller: str
    link: str = Field(description="Address of its page; empty where it is unknown.")
    product_id: str
    seller_attributes: dict[str, str]
    attributes: dict[str, str] = Field(description="What a generator wrote of it.")


class HitOut(OfferOut):
    """An offer that was found."""

    score: float
    reasons: ReasonsOut | None = None
    why: str = Field("", description="The reasons in one line.")
    group: str | None = Field(None, description="Of --matches: the group that the offer is in.")


def reasons_out(reasons: Reasons | None) -> ReasonsOut | None:
    """Reasons as JSON."""
    return None if reasons is None else ReasonsOut.model_validate(reasons.as_dict())


def offer_out(offer: Offer, attributes: KeyAttributes) -> OfferOut:
    """An offer of the index as JSON; where its image lies on the server is not told."""
    return OfferOut(
        id=offer.id,
        title=offer.title,
        description=offer.description,
        image=IMAGE_PATH + quote(offer.id, safe="") if offer.image else None,
        category=offer.category,
        seller=filter_value(offer, "seller"),
        link=_link(offer),
        product_id=offer.product_id,
        seller_attributes={name: str(value) for name, value in offer.attributes.items()},
        attributes=attributes.as_dict(),
    )


def hit_out(hit: Hit, groups: Mapping[str, str]) -> HitOut:
    """A hit as JSON."""
    return HitOut(
        **offer_out(hit.offer, hit.attributes).model_dump(),
        score=float(hit.score),
        reasons=reasons_out(hit.reasons),
        why=str(hit.reasons or ""),
        group=groups.get(hit.offer.id),
    )


def _link(offer: Offer) -> str:
    named = (str(offer.extra.get(name) or "") for name in _LINKS)
    return next((link for link in named if is_address(link)), "")
