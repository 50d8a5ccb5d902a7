"""`afmrl parity`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from afmrl.cli.summary import Ended, Summary
from afmrl.errors import InputError, printable, shown_address

if TYPE_CHECKING:
    from afmrl.embedder.embedder import Embedder
    from afmrl.embedder.parity.golden import Compared, Golden


def parity(
    model: str,
    *,
    server: str | None = None,
    model_name: str = "",
    api_key_env: str = "OPENAI_API_KEY",
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    write: Annotated[bool, Parameter(negative=())] = False,
) -> Summary:
    """Say whether an embedder computes here what it computed where it was trained, and whether a server does.

    A run keeps the embeddings of 16 offers beside its embedder, in parity.json. They are embedded again and compared:
    they agree from a cosine of 0.9999, or 0.999 where 16 bits are involved. Exit code 0: all agree. 1: one differs.

    Parameters
    ----------
    model
        A trained embedder's folder, or its name.
    server
        Also send the offers to the /v1/embeddings of this server (afmrl serve, vLLM, any OpenAI-compatible one), and
        look for the mistake that explains what differs.
    model_name
        What the server calls the model; by default the only one that it has.
    api_key_env
        Environment variable that holds the server's key.
    dtype
        Compute here in this type; by default in the one that the model was saved in.
    write
        Write parity.json beside a model that has none: what it gives here is then taken for right.
    """
    from afmrl.embedder.embedder import Embedder
    from afmrl.embedder.names import model_folder
    from afmrl.embedder.parity.golden import GOLDEN_FILE, read_golden, write_golden
    from afmrl.embedder.parity.offers import read_offers
    from afmrl.terminal import quiet_libraries

    quiet_libraries()
    folder = Path(model_folder(model))
    golden = read_golden(folder)
    if write and golden is not None:
        raise InputError(f"{folder / GOLDEN_FILE}: is there already; to trust this machine instead, remove it first")
    if write and not folder.is_dir():
        raise InputError(f"parity: --write needs the model's folder, and {model} is none")
    how = f"`afmrl parity {model} --write` writes them where the model is known to be right"
    embedder = Embedder.from_pretrained(model, dtype=dtype)
    if golden is None and not write and server is None:
        raise InputError(f"{model}: has no golden vectors ({GOLDEN_FILE}); {how}")
    _, left_out = read_offers(embedder)
    summary: Summary = {"model": model, "left_out": left_out}
    agree = True
    for reason in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name, of in left_out.items() if of == reason)
        print(printable(f"Left out, since {reason}: {names}."))
    if write:
        golden = write_golden(embedder, folder)
        print(f"{folder / GOLDEN_FILE}: golden vectors of {len(golden.embeddings)} offers")
        summary["written"] = folder / GOLDEN_FILE
    elif golden is None:
        print(printable(f"{model} has no golden vectors: the server alone is compared; {how}."))
    else:
        found = _compare_here(embedder, golden, summary)
        agree = all(one.agrees for one in found)
    if server is not None:
        agree &= _compare_server(embedder, server, model_name, api_key_env, summary)
    summary["agrees"] = agree
    if not agree:
        raise Ended(1, summary)
    return summary


def _compare_here(embedder: Embedder, golden: Golden, summary: Summary) -> Sequence[Compared]:
    from afmrl.embedder.parity.golden import compare_golden, compute_golden, least_cosine

    here = compute_golden(embedder)
    least = least_cosine([golden.dtype, here.dtype])
    found = compare_golden(golden, here, least)
    if not found:
        raise InputError("parity.json: holds no embedding of an offer; remove it, and write it again (--write)")
    then = {"dtype": golden.dtype, "device": golden.device, **golden.versions}
    now = {"dtype": here.dtype, "device": here.device, **here.versions}
    for title, of in (("then", then), ("now ", now)):
        print(f"{title}: {of['dtype']} on {of['device']}, torch {of.get('torch')}, "
              f"transformers {of.get('transformers')}")  # fmt: skip
    _show("here", found, least)
    summary["golden"] = {"then": then, "now": now, "least_cosine": least, "offers": found}
    return found


def _compare_server(embedder: Embedder, address: str, model_name: str, api_key_env: str, summary: Summary) -> bool:
    import dataclasses

    from afmrl.data.offer_text import one_line
    from afmrl.embedder.parity.explanations import compare_served, opens_turn, reads_messages
    from afmrl.embedder.parity.golden import dtype_of, least_cosine
    from afmrl.embedder.parity.offers import read_offers
    from afmrl.embedder.parity.server import EmbeddingServer, Form

    offers, _ = read_offers(embedder)
    with EmbeddingServer(address, model_name, api_key_env=api_key_env) as server:
        form: Form = "objects" if server.is_ours else "messages" if reads_messages(embedder) else "texts"
        notes = {
            "objects": "objects of text and image; a text is one line there",
            "messages": "messages" + ', with "add_generation_prompt": true' * opens_turn(embedder),
            "texts": "texts",
        }
        if form == "objects":  # it reads a text as an offer's title
            offers = [dataclasses.replace(one, input=_one_line(one.input, one_line)) for one in offers]
        elif form == "texts":
            offers = [one for one in offers if one.image is None]
        served = server.embed(offers, form, generation_prompt=opens_turn(embedder))
        name, url = server.model_name, server.url
    least = least_cosine([dtype_of(embedder)])
    print(printable(f"{shown_address(url)}, model {name!r}, asked with {notes[form]}"))
    found = compare_served(embedder, offers, served, least)
    _show("on the server", found, least)
    summary["server"] = {
        "url": shown_address(url), "model": name, "form": form, "least_cosine": least, "offers": found
    }  # fmt: skip
    return all(one.agrees for one in found)


def _one_line(value: Any, one_line: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return {**value, "text": one_line(value["text"])} if isinstance(value, dict) else value


def _show(where: str, found: Sequence[Compared], least: float) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from afmrl.terminal import output_console

    table = Table(box=box.SIMPLE_HEAD)
    told = any(one.why for one in found)
    columns = [("offer", "left"), ("cosine", "right"), (where, "left")] + [("why", "left")] * told
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=title != "why")  # type: ignore[arg-type]
    for one in found:
        cosine = f"{one.cosine:.6f}" if one.cosine == one.cosine else "–"
        result = Text("ok") if one.agrees else Text("differs", style="bold red")
        table.add_row(Text(one.id), cosine, result, *[Text(printable(one.why))] * told)
    output_console().print(table)
    agreeing = sum(one.agrees for one in found)
    print(f"{agreeing} of {len(found)} agree {where} (cosine at least {least})")
    reasons = [one.why for one in found if not one.agrees and one.why]
    for reason in dict.fromkeys(reasons):
        print(printable(f"{reasons.count(reason)} offers: {reason}" if reasons.count(reason) > 1 else reason))
