"""`afmrl recipe`."""

from __future__ import annotations

import sys

from afmrl.cli.summary import Summary


def recipe(name: str | None = None) -> Summary:
    """List the recipes that come with afmrl, or print one (NAME), to be copied: `afmrl recipe own_catalog > my.yaml`.

    Parameters
    ----------
    name
        Of a recipe, as `afmrl recipe` lists them.
    """
    from afmrl.data.yaml_text import parse_yaml
    from afmrl.training.recipe_files import shipped_recipes, shipped_text

    if name is not None:
        text = shipped_text(name)
        sys.stdout.write(text)
        return {"name": name, "recipe": parse_yaml(text, f"recipe {name}")}
    recipes = shipped_recipes()
    width = max(map(len, recipes))
    for one, about in recipes.items():
        print(f"{one:{width}}  {about}")
    print("\nRun one:   afmrl run own_catalog --catalog.path OFFERS.jsonl --out RUN")
    print("           (--size tiny: a trial that needs no pretrained weights)")
    print("Copy one:  afmrl recipe own_catalog > my.yaml")
    return {"recipes": recipes}
