"""Attribute-enhanced fine-grained multimodal representation learning for offers: is this the same product?"""
