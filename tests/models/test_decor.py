"""DECOR's equations by hand; what is frozen, detached or shared; and TIGER where everything is off."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from data_prep.corpus import ItemVectors
from models import tiger
from models.api import Batch, Budget, Corpus, Examples, Fit
from models.decor import Config, Contextual, Decor, Fusion, tokenize, train
from models.parts.ranking import rank_scores
from models.parts.rqvae import RqVae
from models.parts.seq2seq import T5Sizes
from models.parts.tokenizer import TokenizerConfig
from tests.factories import index_of, shaken

WIDTH, LEVELS, CODES = 8, 2, 4
CONFIG = Config(
    tokenizer=TokenizerConfig(hidden=(8,), width=WIDTH, levels=LEVELS, codes=CODES),
    t5=T5Sizes(width=WIDTH, inner=16, heads=2, head_width=4, encoder_layers=1, decoder_layers=2, dropout=0.0),
    history=4,
    bos_queries=3,
)
SIZES = (CODES, CODES, 3)
ROWS = [(0, 1, 0), (1, 2, 0), (3, 3, 1), (0, 1, 1), (2, 0, 0), (3, 3, 0), (1, 0, 0), (2, 2, 2), (0, 3, 0)]
HISTORY = torch.tensor([[1, 0, 0, 0], [5, 3, 2, 8], [9, 9, 0, 0], [4, 6, 7, 0]])
TARGET = torch.tensor([2, 9, 4, 1])
BATCH = Batch(torch.arange(4), HISTORY, TARGET)
# Padding, the codes of both levels, three suffix codes, the end of an input.
TOKENS = 1 + 2 * CODES + 3 + 1


def made(seed: int = 0, **changes: Any) -> Decor:
    torch.manual_seed(seed)
    index = index_of(ROWS, SIZES)
    model = Decor(dataclasses.replace(CONFIG, **changes), index, torch.randn(LEVELS, CODES, WIDTH)).eval()
    return shaken(model)


def fusion_of(model: Decor) -> tuple[Any, Tensor]:
    """The fusion, whose parts mypy cannot tell, and the collaborative vectors."""
    parametrized: Any = model.generator.token.parametrizations
    (fusion,) = parametrized.weight
    assert isinstance(fusion, Fusion)
    return fusion, parametrized.weight.original


def contextual_of(model: Decor) -> Any:
    assert isinstance(model.generator.compose, Contextual)
    return model.generator.compose


def normed(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt(centred.var(1, keepdims=True) + norm.eps)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def weight_of(module: Any) -> np.ndarray:
    return module.weight.detach().numpy()


class TestFusion:
    def test_before_norm_by_hand(self) -> None:
        """Eq. 10 and 11, row by row."""
        model = made()
        fusion, collaborative = fusion_of(model)
        (w_code, norm_code), (w_own, norm_own) = fusion.of_code, fusion.of_collaborative
        code = normed(fusion.pretrained.numpy() @ weight_of(w_code).T, norm_code)
        code[[0, *range(1 + 2 * CODES, TOKENS)]] = 0  # padding, suffix codes and the end have no code vector
        own = normed(collaborative.detach().numpy() @ weight_of(w_own).T, norm_own)
        expected = np.concatenate([code, own], 1) @ weight_of(fusion.fuse).T
        np.testing.assert_allclose(model.generator.token.weight.detach().numpy(), expected, atol=1e-5)
        assert w_code.bias is None
        assert w_own.bias is None
        assert fusion.fuse.bias is None

    def test_after_norm_by_hand(self) -> None:
        """LN of the code vector as it is; an MLP of two layers behind the collaborative LN."""
        model = made(projection="after-norm")
        fusion, collaborative = fusion_of(model)
        assert isinstance(fusion.of_code, nn.LayerNorm)
        norm_own, (first, _, second) = fusion.of_collaborative
        code = normed(fusion.pretrained.numpy(), fusion.of_code) * fusion.has_code_vector.numpy()
        hidden = normed(collaborative.detach().numpy(), norm_own) @ weight_of(first).T + first.bias.detach().numpy()
        own = np.maximum(hidden, 0) @ weight_of(second).T + second.bias.detach().numpy()
        expected = np.concatenate([code, own], 1) @ weight_of(fusion.fuse).T
        np.testing.assert_allclose(model.generator.token.weight.detach().numpy(), expected, atol=1e-5)

    def test_code_vectors_stand_in_the_rows_of_their_tokens(self) -> None:
        torch.manual_seed(0)
        books = torch.randn(LEVELS, CODES, WIDTH)
        fusion = Fusion(CONFIG, TOKENS, books)
        for level in range(LEVELS):
            for code in range(CODES):
                assert torch.equal(fusion.pretrained[1 + level * CODES + code], books[level, code])
        assert fusion.has_code_vector.flatten().tolist() == [False, *[True] * 2 * CODES, *[False] * 4]

    def test_off_the_vectors_are_learned_alone(self) -> None:
        model = made(fusion=False)
        assert not parametrize.is_parametrized(model.generator.token)
        assert isinstance(model.generator.token.weight, nn.Parameter)


class TestContext:
    def test_pooling_by_hand(self) -> None:
        """Eq. 13 and 14, over the codes of the history alone; padding counts nothing."""
        model = made()
        contextual = contextual_of(model)
        (first, _, last) = contextual.score
        up, _, down = contextual.context_mlp
        table = model.generator.token.weight.detach().double()
        for user, row in enumerate(HISTORY.tolist()):
            tokens = [1, 1 + CODES, 1 + 2 * CODES]
            inputs = [
                first_ + code for item in row if item for first_, code in zip(tokens, ROWS[item - 1], strict=True)
            ]
            h = table[inputs].numpy()
            s = np.tanh(h @ weight_of(first).T + first.bias.detach().numpy()) @ weight_of(last)[0]
            a = np.exp(s) / np.exp(s).sum()
            pooled = a @ h
            hidden = np.maximum(weight_of(up) @ pooled + up.bias.detach().numpy(), 0)
            expected = weight_of(down) @ hidden + down.bias.detach().numpy()
            flat = model.generator.item_tokens(HISTORY[user : user + 1]).flatten(1)
            found = contextual.context(model.generator.token(flat), flat > 0)[0]
            np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-4)

    def test_without_the_mlp_it_is_the_pooled_history(self) -> None:
        contextual = contextual_of(made(context_mlp=False))
        codes, mask = torch.randn(1, 1, WIDTH), torch.ones(1, 1, dtype=torch.bool)
        torch.testing.assert_close(contextual.context(codes, mask), codes[:, 0])

    def test_composition_by_hand(self) -> None:
        """Eq. 16 and 17: no scale, no bias."""
        contextual = contextual_of(made())
        torch.manual_seed(1)
        context, candidates = torch.randn(2, WIDTH), torch.randn(3, WIDTH)
        for user in range(2):
            query = weight_of(contextual.query) @ context[user].numpy()
            scores = np.array([query @ (weight_of(contextual.key) @ one.numpy()) for one in candidates])
            a = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(contextual.weights(context, candidates)[user].detach(), a, atol=1e-5)
            composed = contextual.compose(context, candidates)[user].detach()
            np.testing.assert_allclose(composed, a @ candidates.numpy(), atol=1e-5)

    def test_the_weights_of_a_history_are_those_that_its_composition_has(self) -> None:
        model = made(alpha=0.3)
        with torch.no_grad():
            composition, levels = model.generator.read(HISTORY).composition, model.composition_weights(HISTORY)
            assert composition is not None
            assert len(levels) == 2, "none of the suffix"
            for place, (weights, vectors) in enumerate(zip(levels, model.generator.vectors()[:2], strict=True), 1):
                torch.testing.assert_close(weights.sum(1), torch.ones(4))
                torch.testing.assert_close(0.3 * weights @ vectors, composition.added[:, place])
        assert made(alpha=0.0, bos_queries=0).composition_weights(HISTORY) == []


def inputs_of(model: Decor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the decoder reads for the targets."""
    seen: list[Tensor] = []
    decode = model.generator.transformer.decode

    def spy(tokens: Tensor, encoded: Any) -> Tensor:
        seen.append(tokens)
        return decode(tokens, encoded)

    monkeypatch.setattr(model.generator.transformer, "decode", spy)
    model.training_step(BATCH, 0)
    return seen[0].detach()


class TestDecoderInputs:
    @pytest.mark.parametrize("queries", [0, 3])
    def test_by_hand(self, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Eq. 18 after the start, Eq. 19 at it."""
        model = made(alpha=0.3, bos_queries=queries)
        contextual, table = contextual_of(model), model.generator.token.weight.detach()
        found = inputs_of(model, monkeypatch)
        flat = model.generator.item_tokens(HISTORY).flatten(1)
        context = contextual.context(table[flat], flat > 0).detach()
        start = table[:1].expand(4, -1) if contextual.bos is None else contextual.compose(context, contextual.bos)
        torch.testing.assert_close(found[:, 0], start.detach())
        for level in range(2):
            book = table[1 + level * CODES : 1 + (level + 1) * CODES]
            own = torch.stack([book[ROWS[item - 1][level]] for item in TARGET.tolist()])
            expected = 0.3 * contextual.compose(context, book) + 0.7 * own
            torch.testing.assert_close(found[:, 1 + level], expected.detach())

    def test_of_queries_the_start_tokens_own_vector_is_no_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = made(fusion=False)
        before = inputs_of(model, monkeypatch)
        with torch.no_grad():
            model.generator.token.weight[0] += 5
        torch.testing.assert_close(inputs_of(model, monkeypatch)[:, 0], before[:, 0])

    def test_queries_alone_leave_codes_as_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = made(alpha=0.0)
        labels = model.generator.item_tokens(TARGET)
        expected = model.generator.token(labels[:, :-1]).detach()
        torch.testing.assert_close(inputs_of(model, monkeypatch)[:, 1:], expected)

    def test_the_encoder_reads_fused_vectors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = made()
        seen: list[Tensor] = []
        encode = model.generator.transformer.encode

        def spy(tokens: Tensor, mask: Tensor) -> Any:
            seen.append(tokens)
            return encode(tokens, mask)

        monkeypatch.setattr(model.generator.transformer, "encode", spy)
        model.generator.read(HISTORY)
        flat = model.generator.item_tokens(HISTORY[1:2]).flatten(1)
        torch.testing.assert_close(seen[0][1, :12], model.generator.token.weight[flat[0]])


class TestAllOff:
    OFF: ClassVar[dict[str, Any]] = {"fusion": False, "alpha": 0.0, "bos_queries": 0}

    def test_it_is_tiger(self) -> None:
        """The same weights, the same loss, scores and lists."""
        model = made(**self.OFF)
        other = tiger.Tiger(tiger.Config(t5=CONFIG.t5, history=4), index_of(ROWS, SIZES))
        other.eval().load_state_dict(model.state_dict())
        assert torch.equal(model.training_step(BATCH, 0), other.training_step(BATCH, 0))
        with torch.inference_mode():
            every = torch.arange(1, 10).expand(4, -1)
            assert torch.equal(model.generator.score(HISTORY, every), other.generator.score(HISTORY, every))
            assert torch.equal(model.rank(HISTORY, 9).items, other.rank(HISTORY, 9).items)

    def test_each_part_changes_the_scores(self) -> None:
        every = torch.arange(1, 10).expand(4, -1)
        scores = []
        switched: list[dict[str, Any]] = [
            {},
            {"alpha": 0.3},
            {"bos_queries": 3},
            {"fusion": True},
            {"tied_head": False},
        ]
        for on in switched:
            with torch.inference_mode():
                scores.append(made(**{**self.OFF, **on}).generator.score(HISTORY, every))
        assert all(not torch.allclose(scores[0], other, atol=1e-2) for other in scores[1:])


class TestHead:
    def test_tied_to_the_fused_vectors_and_scaled(self) -> None:
        model = made()
        states = torch.randn(3, WIDTH)
        found = model.generator.log_probs(0, states)
        logits = states @ model.generator.token.weight.T / WIDTH**0.5
        torch.testing.assert_close(found, logits.log_softmax(1)[:, 1 : 1 + CODES])

    def test_untied_it_has_vectors_of_its_own_and_no_scale(self) -> None:
        model = made(tied_head=False)
        assert model.generator.head is not None
        states = torch.randn(3, WIDTH)
        found = model.generator.log_probs(1, states)
        logits = states @ model.generator.head.weight.T
        torch.testing.assert_close(found, logits.log_softmax(1)[:, 1 + CODES : 1 + 2 * CODES])


class TestGradients:
    def test_codebooks_stay_and_all_else_learns(self) -> None:
        model = made().train()
        fusion, _ = fusion_of(model)
        before = fusion.pretrained.clone()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model.training_step(BATCH, 0).backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
        optimizer.step()
        assert torch.equal(fusion.pretrained, before)
        assert "pretrained" not in {name.split(".")[-1] for name, _ in model.named_parameters()}

    def test_detached_candidates_get_none_from_what_is_composed_of_them(self) -> None:
        """A level's composition reaches the table only where candidates are attached; the context always."""
        for detached in (True, False):
            contextual = contextual_of(made(detached_candidates=detached))
            levels = [torch.randn(CODES, WIDTH, requires_grad=True) for _ in range(3)]
            codes = torch.randn(2, 6, WIDTH, requires_grad=True)
            composition = contextual(codes, torch.ones(2, 6, dtype=torch.bool), levels)
            composition.added.square().sum().backward()
            assert codes.grad is not None
            assert [level.grad is not None for level in levels] == [not detached, not detached, False]

    def test_detaching_candidates_changes_nothing_else(self) -> None:
        """All but their vectors: with learned vectors alone, those of the tokens get less, the rest the same."""
        losses, gradients = [], []
        for detached in (True, False):
            model = made(fusion=False, detached_candidates=detached)
            loss = model.training_step(BATCH, 0)
            losses.append(loss)
            names, weights = zip(*model.named_parameters(), strict=True)
            gradients.append(dict(zip(names, torch.autograd.grad(loss, weights), strict=True)))
        assert torch.equal(*losses)
        apart = [name for name, one in gradients[0].items() if not torch.allclose(one, gradients[1][name], atol=1e-6)]
        assert apart == ["generator.token.weight"]
        # Composed are the levels that are read, not the suffix, whose level is last, and no special token.
        changed = (gradients[0][apart[0]] - gradients[1][apart[0]]).abs().amax(1) > 1e-6
        assert changed.nonzero()[:, 0].tolist() == list(range(1, 1 + 2 * CODES))

    def test_sharing_the_fused_vectors_in_a_step_changes_no_gradient(self) -> None:
        model = made()
        loss = model.training_step(BATCH, 0)
        labels = model.generator.item_tokens(TARGET)
        alone = model.generator.loss(model.generator.states(labels, model.generator.read(HISTORY)), labels)
        weights = list(model.parameters())
        torch.testing.assert_close(loss, alone)
        for one, other in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(alone, weights), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)

    def test_in_bf16_a_token_still_sums_its_gradients_in_float32(self) -> None:
        """A sum in bf16 stands still once it is some hundred times the next of its parts."""
        model, times = made(), 4096
        _, collaborative = fusion_of(model)
        with torch.autocast("cpu", torch.bfloat16):
            read = (model.generator.token(torch.full((count,), 3)) for count in (1, times))
            once, often = (torch.autograd.grad(vectors.sum(), collaborative)[0] for vectors in read)
        torch.testing.assert_close(often, times * once)


class TestRanking:
    @pytest.mark.parametrize("changes", [{}, {"tied_head": False}, {"projection": "after-norm", "context_mlp": False}])
    @torch.inference_mode()
    def test_it_is_teacher_forcing_of_all_items(self, changes: dict[str, Any]) -> None:
        model = made(**changes)
        expected = rank_scores(model.generator.score(HISTORY, torch.arange(1, 10).expand(4, -1)), 9)
        found = model.rank(HISTORY, 9)
        assert found.certified.all()
        assert torch.equal(found.items, expected.items)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
        loss = model.training_step(BATCH, 0)
        scores = model.generator.score(HISTORY, TARGET[:, None])
        torch.testing.assert_close(loss, -scores.mean() / 3)

    def test_all_is_composed_once_for_a_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many prefixes are expanded, tokens are fused and levels composed once per user."""
        calls = {"composed": 0, "fused": 0}
        for kind, name in ((Contextual, "composed"), (Fusion, "fused")):
            forward = kind.forward

            def counted(*given: Any, name: str = name, forward: Any = forward) -> Any:
                calls[name] += 1
                return forward(*given)

            monkeypatch.setattr(kind, "forward", counted)
        model = made()
        found = []
        for k in (1, 9):
            calls.update(composed=0, fused=0)
            with torch.inference_mode():
                ranking = model.rank(HISTORY, k)
            assert ranking.expansions is not None
            found.append((calls["composed"], calls["fused"]))
        assert found[0] == found[1]
        assert found[0][0] == 1


class TestTraining:
    def corpus(self) -> Corpus:
        values = np.random.default_rng(0).normal(size=(13, 6)).astype(np.float32)
        values[0] = 0
        items = [f"i{item}" for item in range(12)]
        vectors = ItemVectors(values, "npz", "file.npz", "0" * 64, stand_in=False)
        flat, offsets = np.arange(12, dtype=np.int32) + 1, np.array([0, 6, 12])
        return Corpus("hand", flat, offsets, ["u0", "u1"], items, vectors=vectors)

    def test_the_recommender_has_the_tokenizers_codes_and_code_vectors(self) -> None:
        stages: dict[str, tuple[nn.Module, Budget]] = {}
        seen = {"tokenizer": list(range(1, 13)), "recommender": None}

        def untrained(
            stage: str, build: Any, budget: Budget, examples: Examples | None = None, quality: Any = None
        ) -> nn.Module:
            # A tokenizer learns items, 1 to 12; a recommender the corpus's pairs.
            assert (sorted(examples.target.tolist()) if examples else None) == seen[stage]
            stages[stage] = (build(), budget)
            return stages[stage][0]

        fit: Fit = untrained  # type: ignore[assignment]
        torch.manual_seed(2)
        model = train(dataclasses.replace(CONFIG, valid_users=7), self.corpus(), fit)
        assert isinstance(model, Decor)
        tokenizer, first = stages["tokenizer"]
        assert isinstance(tokenizer, RqVae)
        # Patience for all epochs: a tokenizer never stops early.
        assert first == Budget(500, 1_024, patience=500, check_every=50)
        assert stages["recommender"][1] == Budget(200, 256, patience=20, valid_users=7)
        assert torch.equal(model.generator.index.codes[1:, 0, :2], tokenizer.item_codes())
        torch.manual_seed(2)
        assert torch.equal(tokenize(CONFIG, self.corpus(), fit).codes, model.generator.index.codes)
        books = fusion_of(model)[0].pretrained[1 : 1 + 2 * CODES]
        assert torch.equal(books, tokenizer.quantizer.codebooks.detach().flatten(0, 1))
        torch.manual_seed(2)
        short = train(dataclasses.replace(CONFIG, steps=3), self.corpus(), fit)
        assert short.config.steps == stages["recommender"][1].epochs == 3

    def test_widths_must_agree(self) -> None:
        narrow = dataclasses.replace(CONFIG.tokenizer, width=4)
        with pytest.raises(ValueError, match=r"code vectors of width 4 .* and t5.width 8; expected equal ones"):
            dataclasses.replace(CONFIG, tokenizer=narrow)
        # Those of k-means are as wide as the item vectors, which only a corpus tells.
        clustered = dataclasses.replace(CONFIG, tokenizer=dataclasses.replace(narrow, method="rq-kmeans"))
        vectors = self.corpus().item_vectors().shape[1]
        with pytest.raises(
            ValueError, match=rf"code vectors of width {vectors} .* and t5.width 8; expected equal ones"
        ):
            train(clustered, self.corpus(), lambda *given: nn.Identity())  # type: ignore[arg-type]
        # Without the fusion nothing reads code vectors.
        fit: Any = lambda stage, build, *others: build()  # noqa: E731
        config = dataclasses.replace(CONFIG, tokenizer=narrow, fusion=False)
        assert isinstance(train(config, self.corpus(), fit), Decor)

    def test_code_vectors_may_be_centres_of_clusters(self) -> None:
        """`decor-genrec` in small: as many principal components as the recommender is wide, here of 12-d vectors."""
        clusters = TokenizerConfig(levels=2, codes=4, method="rq-kmeans", inputs="whitened", components=WIDTH)
        corpus = self.corpus()
        values = np.random.default_rng(0).normal(size=(13, 12)).astype(np.float32)
        assert corpus.vectors is not None
        corpus = dataclasses.replace(corpus, vectors=dataclasses.replace(corpus.vectors, values=values))
        fit: Any = lambda stage, build, budget: build()  # noqa: E731
        model = train(dataclasses.replace(CONFIG, tokenizer=clusters), corpus, fit)
        assert isinstance(model, Decor)
        books = fusion_of(model)[0].pretrained[1 : 1 + 2 * CODES].unflatten(0, (2, CODES))
        codes = model.generator.index.codes[1:, 0]
        # The centre of a first-level cluster is the mean of its members' whitened vectors, which have mean 0.
        sizes = codes[:, 0].bincount(minlength=CODES)
        torch.testing.assert_close((sizes[:, None] * books[0]).sum(0), torch.zeros(WIDTH), atol=1e-4, rtol=0)
        with pytest.raises(ValueError, match=r"code vectors of width 12 .* and t5.width 8"):
            train(dataclasses.replace(CONFIG, tokenizer=dataclasses.replace(clusters, inputs="as-given")), corpus, fit)


def test_a_checkpoint_carries_all() -> None:
    """Code vectors and queries too: the copy was made of others."""
    source, copy = made(), made(seed=1)
    assert not torch.equal(fusion_of(copy)[0].pretrained, fusion_of(source)[0].pretrained)
    copy.load_state_dict(source.state_dict())
    expected = source.rank(HISTORY, 9)
    assert torch.equal(copy.rank(HISTORY, 9).items, expected.items)
    assert torch.equal(copy.rank(HISTORY, 9).scores, expected.scores)


@pytest.mark.parametrize(
    "name", ["index.codes", "token.parametrizations.weight.original", "token.parametrizations.weight.0.fuse.weight"]
)
def test_codes_and_embeddings_of_two_models_do_not_go_together(name: str) -> None:
    state, name = made().state_dict(), f"generator.{name}"
    mixed = {**state, name: state[name].clone()}
    mixed[name][-1] = mixed[name][-2]
    with pytest.raises(ValueError, match="do not belong together"):
        made().load_state_dict(mixed)


def test_defaults_are_the_papers() -> None:
    """Table 5."""
    config = Config()
    assert (config.lr, config.warmup, config.weight_decay, config.batch_size) == (0.003, 10_000, 0.05, 256)
    assert (config.epochs, config.patience, config.history) == (200, 20, 20)
    assert (config.alpha, config.bos_queries, config.t5.dropout, config.t5.width) == (0.55, 64, 0.1, 128)
    search = {field.name: field.metadata.get("search") for field in dataclasses.fields(Config)}
    assert search["alpha"] == {"choices": [0.1, 0.25, 0.4, 0.55, 0.7]}
    assert search["bos_queries"] == {"choices": [8, 16, 32, 64, 128]}
