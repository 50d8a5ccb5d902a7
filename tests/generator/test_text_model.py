"""Generators without eyes: any causal language model writes attributes, learns by SFT and RAR, and reads no images."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training.config import SFTStage
from afmrl.training.sft import run_sft, unread_images
from conftest import save_image

OFFERS = [Offer(str(n), f"{color} dress {n}") for n, color in enumerate(("red", "blue", "red", "green", "blue", "red"))]
TARGETS = [KeyAttributes.of({"color": offer.title.split()[0]}) for offer in OFFERS]
CHAT = "{% for message in messages %}{{ message['role'] + '> ' + message['content'] + '\n' }}{% endfor %}"


def causal_model(folder, texts, *, chat=None):
    """A Llama of random weights whose tokenizer was trained on the texts; a base model unless it has a template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=chat).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, eos_token_id=0, bos_token_id=None,
        initializer_range=0.06,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts():
    return [f"{offer.title} Key attributes: {target}" for offer, target in zip(OFFERS, TARGETS, strict=True)]


@pytest.fixture(scope="module")
def base(texts, tmp_path_factory):
    return causal_model(tmp_path_factory.mktemp("text") / "base", texts)


@pytest.fixture(scope="module")
def taught(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "taught"
    run_sft(SFTStage(max_steps=80, batch_size=6, learning_rate=5e-3), base, OFFERS, TARGETS, folder)
    return folder


def test_it_learns_to_write_attributes_and_loads_as_an_ordinary_folder(taught):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(taught) is not None
    assert AutoTokenizer.from_pretrained(taught).eos_token == "<|end|>"
    generator = AttributeGenerator.from_pretrained(taught)
    assert generator.attributes(OFFERS) == TARGETS
    assert generator.num_invalid == 0


def test_offers_that_are_written_together_are_as_those_alone(taught):
    generator = AttributeGenerator.from_pretrained(taught)
    offers = [*OFFERS, Offer("long", "a long green title of many words, which pads all others, dress 99")]
    together = [completion.text for (completion,) in generator.generate(offers, batch_size=7)]
    alone = [completion.text for (completion,) in generator.generate(offers, batch_size=1)]
    assert together == alone


def test_a_chat_models_own_template_is_taken(texts, tmp_path):
    folder = causal_model(tmp_path / "chat", texts, chat=CHAT)
    generator = AttributeGenerator.from_pretrained(folder)
    (request,) = generator.requests([Offer("1", "red dress", image="nowhere.jpg")])
    assert generator.processor.apply_chat_template(request.messages, tokenize=False) == (
        "user> red dress\nKey attributes:\n"
    )


def test_a_base_model_reads_the_plain_words_and_a_line_break(base):
    generator = AttributeGenerator.from_pretrained(base)
    (request,) = generator.requests([Offer("1", "red dress", image="nowhere.jpg")])
    rendered = generator.processor.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)
    assert rendered == "red dress\nKey attributes:\n"


def test_images_are_neither_opened_nor_shown(taught):
    generator = AttributeGenerator.from_pretrained(taught)
    assert not generator.reads_images
    with_image = [Offer(offer.id, offer.title, image="/nowhere/at/all.jpg") for offer in OFFERS]
    assert generator.attributes(with_image) == TARGETS


def test_sft_opens_no_image_either(base, tmp_path):
    offers = [Offer(offer.id, offer.title, image="/nowhere/at/all.jpg") for offer in OFFERS]
    done = run_sft(SFTStage(max_steps=1, batch_size=2), base, offers, TARGETS, tmp_path / "model")
    assert np.isfinite(done["history"][-1]["loss"])
    assert (unread_images(base, offers), unread_images(base, OFFERS)) == (len(OFFERS), 0)


def test_the_command_says_that_images_are_not_read(taught, call, tmp_path):
    image = save_image(tmp_path / "1.png")
    offers = [Offer("1", "red dress 0", image=str(image)), Offer("2", "blue dress 1")]
    write_catalog(tmp_path / "offers.jsonl", offers)
    code, out, err = call("attributes", tmp_path / "offers.jsonl", "--generator", taught, "--out", tmp_path / "out")
    assert code == 0, err
    assert "this generator reads text alone: 1 image not read" in out


def test_a_tokenizer_that_ends_no_text_is_refused(base, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="names no end-of-text token"):
        AttributeGenerator.from_pretrained(tmp_path)


def test_a_prompt_in_the_words_of_answers():
    prompt = GeneratorPrompt(normalized=True, category=True)
    assert prompt.text(Offer("1", "RED  Dress Ｌ", category="Dresses")) == (
        "Category: dresses\nTitle: red dress l\nKey attributes:"
    )
    assert prompt.text(Offer("1", "RED Dress")) == "Title: red dress\nKey attributes:"


def test_rar_reinforces_it(taught, tiny_model, tmp_path):
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.config import RARStage
    from afmrl.training.rar import run_rar
    from afmrl.training.split_reward import query_reward

    config = RARStage(
        max_steps=2, prompts_per_step=2, num_generations=4, max_new_tokens=12, eval_steps=0, sft_weight=0.1,
        sft_batch_size=2, rewarded_pairs="all", faithfulness_weight=0.0,
    )  # fmt: skip
    image = str(save_image(tmp_path / "1.png"))
    queries = [Offer(f"q{offer.id}", offer.title, image=image) for offer in OFFERS]
    embedder = Embedder.from_pretrained(tiny_model)
    reward = query_reward(config, taught, embedder, queries, OFFERS, [np.array([n]) for n in range(len(OFFERS))])
    result = run_rar(config, taught, reward, tmp_path / "rar", anchor=(queries, TARGETS))
    assert len(result["history"]) == 2
    assert Path(tmp_path / "rar" / "model.safetensors").is_file()
    assert AttributeGenerator.from_pretrained(tmp_path / "rar").generate(OFFERS)


def test_a_batch_that_gets_smaller_writes_what_generate_writes(taught):
    from afmrl.generator.engines.greedy import write_greedily
    from afmrl.generator.local_model import load_model, load_processor

    model, processor = load_model(taught).eval(), load_processor(taught)
    processor.tokenizer.padding_side = "left"
    texts = ["red dress 0\nKey attributes:\n", "a dress", "something of many other words 12345\n", "blue", "x y z"] * 3
    inputs = processor(text=texts, return_tensors="pt", padding=True, add_special_tokens=False)
    whole = model.generate(**inputs, max_new_tokens=40, do_sample=False)[:, inputs["input_ids"].shape[1] :].tolist()
    ours = write_greedily(model, inputs, ends={0}, max_new_tokens=40)
    assert ours == [row[: row.index(0) + 1] if 0 in row else row for row in whole]
    assert len({len(row) for row in ours}) > 1  # rows ended at different times


@pytest.mark.parametrize("kind", ["masked", "two parts"])
def test_a_model_that_does_not_write_on_is_refused(kind, base, tmp_path):
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(base)
    size = {"vocab_size": len(tokenizer), "num_attention_heads": 2, "num_heads": 2}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    model = (
        BertForMaskedLM(BertConfig(**size, **sizes))
        if kind == "masked"
        else T5ForConditionalGeneration(T5Config(**size, d_model=16, d_kv=8, d_ff=16, num_layers=1))
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no language model that writes on"):
        AttributeGenerator.from_pretrained(tmp_path)


def test_a_model_without_its_tokenizer_is_refused(base, tmp_path):
    shutil.copytree(base, tmp_path / "m", ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*"))
    with pytest.raises(InputError, match="tokenizer"):
        AttributeGenerator.from_pretrained(tmp_path / "m")


def test_padding_moves_no_word_of_a_model_that_counts_its_positions():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from afmrl.generator.engines.greedy import can_write_greedily, write_greedily

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=2)).eval()
    model.transformer.wpe.weight.data.mul_(40)  # where a word stands decides what comes next
    assert can_write_greedily(model)
    rows = [torch.tensor([3, 4, 5, 6, 7, 8, 9]), torch.tensor([3, 4])]
    padded = torch.stack([torch.nn.functional.pad(row, (7 - len(row), 0)) for row in rows])
    mask = torch.stack([torch.nn.functional.pad(torch.ones_like(row), (7 - len(row), 0)) for row in rows])
    together = write_greedily(model, {"input_ids": padded, "attention_mask": mask}, ends={0}, max_new_tokens=8)
    for row, written in zip(rows, together, strict=True):
        alone = {"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]}
        assert write_greedily(model, alone, ends={0}, max_new_tokens=8) == [written]


def test_an_answer_ends_where_the_model_or_its_tokenizer_says(taught):
    generator = AttributeGenerator.from_pretrained(taught)
    model, tokenizer = generator.engine.model, generator.processor.tokenizer
    ((whole,),) = generator.generate(OFFERS[:1])
    colon = next(token for token in tokenizer.encode(whole.text) if ":" in tokenizer.decode([token]))
    model.generation_config.eos_token_id = [0, colon]
    ((cut,),) = generator.generate(OFFERS[:1])
    assert cut.ended and whole.text.startswith(cut.text) and ":" not in cut.text
    model.generation_config.eos_token_id = None
    assert generator.generate(OFFERS[:1]) == [[whole]]


def test_several_conversations_are_rendered_as_each_alone_and_a_padding_token_is_kept(base):
    from transformers import AutoTokenizer

    from afmrl.generator.local_model import TextProcessor

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = "!"
    processor = TextProcessor(tokenizer)
    assert processor.tokenizer.pad_token == "!"
    messages = [[{"role": "user", "content": [{"type": "text", "text": text}]}] for text in ("red", "blue")]
    together = processor.apply_chat_template(messages, tokenize=False)
    assert together == [processor.apply_chat_template(one, tokenize=False) for one in messages] == ["red\n", "blue\n"]
