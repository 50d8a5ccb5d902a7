"""`afmrl match` on labeled public sets, beside TF-IDF + union-find, dedupe and splink; its vetoes; its cost.

    python benchmarks/match.py defaults --data DIR    # learns the default pair model from the train splits
    python benchmarks/match.py run --data DIR         # quality: every set, with and without labels and models
    python benchmarks/match.py labels --data DIR      # groups by the plain command, with labels and without
    python benchmarks/match.py vetoes --data DIR      # what each veto costs and saves on labeled pairs
    python benchmarks/match.py linkage --data DIR     # groups: average linkage, complete linkage, union-find
    python benchmarks/match.py scale --offers 10000 100000 1000000
    python benchmarks/match.py update --offers 100000 --new 1000
    python benchmarks/match.py table

DIR holds wdc_products, abt_buy, amazon_google, wdc_lspc and magento_luma (`afmrl dataset` says where they come from).
"""

from __future__ import annotations

import argparse

from common import RESULTS, add_data


def main() -> None:
    """One subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("defaults", "run", "labels", "vetoes", "linkage"):
        command = commands.add_parser(name)
        add_data(command)
        if name in ("run", "labels"):
            command.add_argument("--sets", nargs="+", default=None)
        if name == "run":
            command.add_argument("--peers", action="store_true", help="dedupe and splink too")
        if name == "defaults":
            command.add_argument("--image-model", default=None, help="embedder that reads images, for magento_luma")
    scale = commands.add_parser("scale")
    scale.add_argument("--offers", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    commands.add_parser("one").add_argument("offers", type=int)  # a run of `scale`, in a process of its own
    update = commands.add_parser("update", help="an update with new offers, beside the run of all of them")
    update.add_argument("--offers", type=int, default=100_000)
    update.add_argument("--new", type=int, default=1_000)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command in ("scale", "one", "update"):
        import match_scale

        if arguments.command == "one":
            match_scale.run_one(arguments.offers)
        elif arguments.command == "update":
            match_scale.run_update(arguments.offers, arguments.new, RESULTS / "match_update.json")
        else:
            match_scale.run(arguments.offers, RESULTS / "match_scale.json")
        return
    if arguments.command == "defaults":
        import match_defaults

        match_defaults.run(arguments.data, RESULTS / "match_defaults.json", arguments.image_model)
        return
    if arguments.command == "labels":
        import match_labels

        match_labels.run(arguments.data, RESULTS / "match_labels.json", arguments.sets)
        return
    import match_quality

    if arguments.command == "run":
        match_quality.run(arguments.data, RESULTS / "match.json", sets=arguments.sets, peers=arguments.peers)
    elif arguments.command == "vetoes":
        match_quality.vetoes(arguments.data, RESULTS / "match_vetoes.json")
    elif arguments.command == "linkage":
        match_quality.linkages(arguments.data, RESULTS / "match_linkage.json")
    else:
        import match_labels

        match_quality.table(RESULTS)
        match_labels.table(RESULTS / "match_labels.json")


if __name__ == "__main__":
    main()
