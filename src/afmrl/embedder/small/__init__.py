"""The small model: real pretrained towers of text and image that lie in packages, joined to one embedding."""
