"""Embeds offers and searches a catalog by text and by image.

The catalog is drawn: families of products that differ in one or two details, each offer with its own image and title.
The model is tiny and has random weights, so that this runs anywhere in seconds: its cosines say little, and the words
(BM25) bring most of the hits. A trained embedder's folder, or any sentence-transformers model, goes in the same place.
"""

import tempfile
from pathlib import Path

from afmrl import Embedder, read_catalog, search
from afmrl.embedder.tiny import build_tiny_model
from afmrl.sample.catalog import write_sample_catalog

folder = Path(tempfile.mkdtemp())
catalog_path = write_sample_catalog(folder / "catalog", families={"test": 6})
catalog = read_catalog(catalog_path)
model_path = build_tiny_model((offer.title for offer in catalog), folder / "model")
print(f"{len(catalog)} offers, the first: {catalog.offers[0].title!r}, image {Path(catalog.offers[0].image).name}")

# Offers, dicts and plain texts become rows of unit length, by image and text together, or by one of them.
embedder = Embedder.from_pretrained(model_path)
wanted = next(offer for offer in catalog if offer.title and offer.image)
rows = embedder.encode([wanted, {"text": wanted.title, "image": wanted.image}, wanted.title])
print("embeddings:", rows.shape, "cosines with the first:", (rows @ rows[0]).round(3))
print("text alone:", (embedder.encode([wanted], modality="text") @ rows.T).round(3)[0])

# Search: the words and the embedding count together. The first hit is the offer itself.
for hit in search(catalog_path, text=wanted.title, model=model_path, k=3):
    print(f"by text   {hit.score:.3f}  {hit.offer.id}  {hit.offer.title}")
for hit in search(catalog_path, image=wanted.image, model=model_path, k=3):
    print(f"by image  {hit.score:.3f}  {hit.offer.id}  {hit.offer.title}")
