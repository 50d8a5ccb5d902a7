"""Our own routes: search, attributes, match, the offers of the index and their images."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, StringConstraints

from afmrl.data.image_cache import is_address
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import fingerprint
from afmrl.index.backend import Where
from afmrl.serving.answers import IMAGE_PATH, HitOut, OfferOut, hit_out, offer_out
from afmrl.serving.inputs import Id, Inputs, Listed, OfferFields, ProductId, Strict, TextImage, few_names
from afmrl.serving.kept_images import Keeping
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal, of_field
from afmrl.serving.service import MATCHED, Service
from afmrl.serving.timing import Timing

PREFIX = "/afmrl/v1"
SHOWN_SIDE = 640
"""Longest side, in pixels, of an image as it is shown."""
MOST_VALUES = 500
"""Of a column, for a choice of filters."""
MOST_WANTED = 50
"""Values of the filters of one search."""
Value = Annotated[str, StringConstraints(max_length=1000)]


class SearchRequest(Strict):
    """What is searched for: a text, an image, both, or an offer of the index."""

    text: str = ""
    image: str | None = Field(None, description="Base64, a data: URI, or with --fetch an http(s) address.")
    offer_id: Id | None = Field(None, description="Find the same product as this offer of the index.")
    k: int = Field(10, ge=1)
    where: Annotated[dict[Literal["category", "seller", "product_id"], Listed[Value]], BeforeValidator(few_names)] = (
        Field(
            default_factory=dict,
            description="Column -> allowed values, at most 50 in all; categories and sellers without case.",
        )
    )
    generator: bool | None = Field(None, description="Write key attributes first; by default if there is a generator.")
    rerank: bool = Field(True, description="Order the best 50 by the pair model, with reasons.")


class SearchHit(HitOut):
    """An offer that was found by a search."""

    same: bool | None = Field(None, description="Whether the pair model calls it the same; null: it was not asked.")


class SearchAnswer(BaseModel):
    """Hits, best first."""

    hits: list[SearchHit]
    notes: list[str] = Field(description="Values of filters that no offer has, with the nearest that there are.")
    milliseconds: dict[str, float] = Field(description="Of each step.")


class AttributesRequest(Strict):
    """Offers whose key attributes are wanted."""

    offers: Listed[OfferFields]


class AttributesAnswer(BaseModel):
    """Key attributes of each offer, in order."""

    model_config = ConfigDict(populate_by_name=True)

    attributes: list[dict[str, str]]
    source: Literal["generator", "rules"] = Field(
        alias="from", description="Who wrote them: the generator, or rules that read titles."
    )
    milliseconds: dict[str, float]


class MatchOffer(OfferFields):
    """An offer that may be in the index already."""

    id: Id | None = Field(None, description="Its own id: an offer of the index with it is not compared.")


class MatchRequest(Strict):
    """Is this offer already there?"""

    offer: MatchOffer
    k: int = Field(5, ge=1, le=MATCHED)


class MatchOut(HitOut):
    """An offer of the index beside the one that was asked for; `score` is the pair model's logit."""

    probability: float
    same: bool = Field(description="Above the threshold and without a veto.")


class MatchAnswer(BaseModel):
    """The likeliest offers of the index; `same` and `group` are those of the best one that is the same product."""

    same: str | None = Field(description="Id of the offer that is most likely the same product; null: it is new.")
    group: str | None
    probability: float = Field(description="Of the likeliest offer.")
    threshold: float = Field(description="Probability from which two offers are called one product.")
    threshold_from: str
    matches: list[MatchOut]
    milliseconds: dict[str, float]


class UpsertOffer(OfferFields):
    """An offer to put into the index; one of the same id is replaced whole."""

    id: Id
    product_id: ProductId = ""


class UpsertRequest(Strict):
    """Offers to put into the index."""

    offers: Listed[UpsertOffer]


class UpsertAnswer(BaseModel):
    """What was done; it is on the disk."""

    inserted: int
    updated: int
    unchanged: int


class DeleteRequest(Strict):
    """Offers to delete."""

    ids: Listed[Id]


class DeleteAnswer(BaseModel):
    """What was done; it is on the disk."""

    deleted: int
    missing: list[str] = Field(description="Ids that were not there.")


class OffersAnswer(BaseModel):
    """Offers of the index."""

    offers: list[OfferOut]
    missing: list[str] = Field(description="Ids that are not there.")


class FiltersAnswer(BaseModel):
    """Values that a search can be filtered by, at most 500 a column."""

    category: list[str]
    seller: list[str]


def offer_routes(service: Service, groups: Mapping[str, str]) -> APIRouter:
    """The routes of offers.

    Args:
        groups: id of an offer -> id of its group, of an earlier `afmrl match`.
    """
    router = APIRouter(prefix=PREFIX, tags=["offers"], responses=refusals(PREFIX))

    @router.post("/search")
    def search(request: SearchRequest) -> SearchAnswer:
        """The offers that look and read most like what is searched for, with scores, attributes and reasons."""
        deadline, timing = service.deadline(), Timing()
        if request.k > service.limits.hits:
            raise Refusal(400, f"k: {request.k} hits, at most {service.limits.hits} are given", param="k")
        if (wanted := sum(map(len, request.where.values()))) > MOST_WANTED:
            raise Refusal(413, f"where: {wanted:,} values are given, at most {MOST_WANTED} at a time", param="where")
        where: Where = {str(column): values for column, values in request.where.items()}
        with service.inputs(deadline) as read:
            if request.offer_id is not None:
                if request.text or request.image:
                    raise Refusal(400, "give offer_id, or text and image", param="offer_id")
                query = _stored(service, request.offer_id, deadline)[0]
            else:
                value = TextImage(text=request.text, image=request.image)
                query = read.read(value, "query")
            hits = service.search(
                query,
                request.k,
                timing,
                deadline,
                where=where,
                generate=request.generator,
                rerank=request.rerank,
                own_hits=request.offer_id is None,
            )
        return SearchAnswer(
            hits=[SearchHit(**dict(hit_out(hit, groups)), same=service.is_same(hit)) for hit in hits],
            notes=service.unknown_filters(where, deadline),
            milliseconds=timing.milliseconds,
        )

    @router.post("/attributes")
    def attributes(request: AttributesRequest) -> AttributesAnswer:
        """Key attributes of offers."""
        deadline, timing = service.deadline(), Timing()
        service.check_batch(len(request.offers), "offers")
        with service.inputs(deadline) as read, timing.step("attributes"):
            offers = [read.read_offer(one, f"offers[{place}]") for place, one in enumerate(request.offers)]
            found = service.attributes(offers, deadline)
        return AttributesAnswer.model_validate(
            {
                "attributes": [one.as_dict() for one in found],
                "from": "generator" if service.has_generator else "rules",
                "milliseconds": timing.milliseconds,
            }
        )

    @router.post("/match")
    def match(request: MatchRequest) -> MatchAnswer:
        """Whether an offer is in the index already: the likeliest offers with probability and reasons."""
        deadline, timing = service.deadline(), Timing()
        with service.inputs(deadline) as read:
            offer = dataclasses.replace(read.read_offer(request.offer, "offer"), id=request.offer.id or "")
            found = service.match(offer, request.k, timing, deadline)
        best = found[0] if found and found[0].same else None
        threshold, origin = service.match_threshold
        return MatchAnswer(
            same=best.hit.offer.id if best else None,
            group=groups.get(best.hit.offer.id) if best else None,
            probability=max((one.probability for one in found), default=0.0),
            threshold=threshold,
            threshold_from=origin,
            matches=[
                MatchOut(**dict(hit_out(one.hit, groups)), probability=one.probability, same=one.same) for one in found
            ],
            milliseconds=timing.milliseconds,
        )

    @router.get("/offers")
    def get_offers(ids: Annotated[list[Id], FailFast(), Query(alias="id", min_length=1)]) -> OffersAnswer:
        """Offers of the index by their ids."""
        service.check_batch(len(ids), "id")
        rows = service.get(ids)
        found = [offer_out(offer, of) for offer, of in zip(rows.offers, rows.key_attributes, strict=True)]
        return OffersAnswer(offers=found, missing=_without(ids, rows.ids))

    @router.post("/offers")
    def upsert_offers(request: UpsertRequest) -> UpsertAnswer:
        """Put offers into the index. Once this is answered they are on the disk."""
        deadline = service.deadline()
        service.check_batch(len(request.offers), "offers")
        ids = [one.id for one in request.offers]
        if len(set(ids)) < len(ids):
            twice = next(name for place, name in enumerate(ids) if name in ids[:place])
            raise Refusal(400, f"offers: the id {twice[:100]!r} appears twice", param="offers")
        with service.inputs(deadline) as read, service.images.keeping() as images:
            offers = [
                _kept(service, read, images, one, f"offers[{place}]", deadline)
                for place, one in enumerate(request.offers)
            ]
            touched = service.upsert(offers, images, deadline)
        return UpsertAnswer(inserted=touched.inserted, updated=touched.updated, unchanged=touched.unchanged)

    @router.delete("/offers")
    def delete_offers(request: DeleteRequest) -> DeleteAnswer:
        """Delete offers of the index. Once this is answered they are gone from the disk."""
        deadline = service.deadline()
        service.check_batch(len(request.ids), "ids")
        ids = list(dict.fromkeys(request.ids))
        missing = _without(ids, service.get(ids, deadline).ids)
        return DeleteAnswer(deleted=service.delete(ids, deadline), missing=missing)

    @router.get("/filters")
    def filters() -> FiltersAnswer:
        """Categories and sellers that a search can be filtered by."""
        deadline = service.deadline()
        return FiltersAnswer(
            category=service.filter_values("category", MOST_VALUES, deadline),
            seller=service.filter_values("seller", MOST_VALUES, deadline),
        )

    @router.get("/image", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def image(request: Request, identifier: Annotated[Id, Query(alias="id")]) -> Response:
        """The image of an offer of the index, as a JPEG of at most 640 pixels a side."""
        deadline = service.deadline()
        offer, _ = _stored(service, identifier, deadline)
        try:
            if not offer.image:
                raise InputError("no image")
            status = os.stat(offer.image)
            tag = f'"{fingerprint(offer.image, status.st_size, status.st_mtime_ns)}"'
            headers = {"Cache-Control": "private, no-cache", "ETag": tag}  # kept, but asked for: it may be replaced
            if tag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            with service.decoding.turn(deadline):
                shown = open_image(offer.image, max_pixels=service.limits.image_pixels, max_side=SHOWN_SIDE)
        except (InputError, OSError) as error:
            raise Refusal(404, f"the offer {identifier[:100]!r} has no image that can be shown") from error
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG", quality=85)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers=headers)

    return router


def _stored(service: Service, identifier: str, deadline: float) -> tuple[Offer, Any]:
    rows = service.get([identifier], deadline)
    if not rows.ids:
        raise Refusal(404, f"no offer of the index has the id {identifier[:100]!r}", param="id")
    return rows.offers[0], rows.key_attributes[0]


def _kept(service: Service, read: Inputs, images: Keeping, fields: UpsertOffer, where: str, deadline: float) -> Offer:
    """The offer as the index keeps it, its image in a file that stays."""
    image = fields.image or ""
    if image.startswith(IMAGE_PATH):  # as a client got it: the image that the offer has
        path = _stored(service, fields.id, deadline)[0].image
    elif image:
        with of_field(f"{where}.image"):
            content = service.uploads.content(image, deadline)
            with service.uploads.held(content, deadline):  # a damaged one is refused before it is kept
                path = image if is_address(image) else images.add(content)
    else:
        path = ""
    return dataclasses.replace(read.read_offer(fields, where, image=path), id=fields.id, product_id=fields.product_id)


def _without(ids: list[str], found: list[str]) -> list[str]:
    there = set(found)
    return [name for name in dict.fromkeys(ids) if name not in there]
