"""Which of these offers are the same product?

No model and no labels: words, facts read off the titles, and the vetoes decide. Each line is one pair: its probability
and what agrees, or the attribute that keeps the two apart. The same call takes a catalog's file or a pandas DataFrame.
"""

import afmrl

offers = [
    {"id": "a", "title": "Maison Lune silk dress V-neck, deep red, M"},
    {"id": "b", "title": "Maison Lune dress, silk, v neck (wine red) size M"},
    {"id": "c", "title": "Maison Lune silk dress V-neck, navy, M"},
]
result = afmrl.match(offers)  # or a file, a pandas DataFrame, an index
for group in result.groups:
    print(group.ids, round(group.probability, 2))
for pair in result.pairs:
    print(pair)

# The reasons are data: what agrees, what differs, what one offer states alone, and where each value is from.
first = result.pairs[0]
for key, values in first.reasons.agree.items():
    print(f"{first.left.id} and {first.right.id} agree in {key}: {values.left} ({values.sources[0]})")

# What the seller states counts too, and any of it can veto: the two shirts differ in nothing else.
shirts = [
    {"id": "d", "title": "Nordwind shirt oxford fit", "attributes": {"material": "linen"}},
    {"id": "e", "title": "Nordwind shirt oxford fit", "attributes": {"material": "cotton"}},
]
for vetoes in ([], ["material"]):
    print(f"veto={vetoes}:", *afmrl.match(shirts, veto=vetoes).pairs)

# A row of a DataFrame is an offer; empty cells are empty fields.
try:
    import pandas
except ImportError:
    print("pandas is not installed")
else:
    from_frame = afmrl.match(pandas.DataFrame(offers))
    print("from a DataFrame, the same:", from_frame.pairs == result.pairs)
