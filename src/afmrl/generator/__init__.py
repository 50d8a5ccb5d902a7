"""The attribute generator: offers to key attributes, by a local model, a server, or a recording."""

from afmrl.generator.attribute_generator import AttributeGenerator, open_generator
from afmrl.generator.engine import Completion, Engine, Request, Sampling, Usage

__all__ = ["AttributeGenerator", "Completion", "Engine", "Request", "Sampling", "Usage", "open_generator"]
