"""The planner's GRPO: what is known of its loss without training anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clvr_core.training.grpo import advantages, grpo_loss, log_probabilities, rewards, written

HEADER, END, PICTURE = (7, 8, 9), 5, 3


def rollouts(seed: int = 0) -> dict[str, Any]:
    made = torch.Generator().manual_seed(seed)
    now = torch.randn(6, 12, generator=made) - 2
    mask = torch.rand(6, 12, generator=made) < 0.6
    mask[:, 0] = True
    return {
        "now": now,
        "old": now + 0.3 * torch.randn(6, 12, generator=made),
        "reference": now + 0.3 * torch.randn(6, 12, generator=made),
        "mask": mask,
        "advantage": torch.randn(6, generator=made),
    }


def test_an_edit_costs_and_agreement_pays():
    found = rewards([1.0, 1.0, 0.6], [3, 4, 0], cost=0.25)
    assert found.tolist() == pytest.approx([4.25, 4.0, 3.0])


def test_advantages_are_of_the_group_alone_and_none_where_all_did_alike():
    found = advantages(torch.tensor([[1.0, 2.0, 3.0], [8.0, 8.0, 8.0]]))
    assert found[0].tolist() == pytest.approx([-1, 0, 1], abs=1e-3)
    assert found[1].tolist() == [0, 0, 0]
    assert torch.allclose(found[0], advantages(torch.tensor([[101.0, 102.0, 103.0]]))[0])
    mixed = advantages(torch.tensor([[3.0, 1.0, 2.0]]))[0]
    assert torch.allclose(mixed, found[0][[2, 0, 1]])


def test_only_what_the_controller_wrote_is_masked_in():
    row = [1, *HEADER, 20, 21, END, 4, PICTURE, PICTURE, 22, *HEADER, 23, END, 4]
    cut = [1, 2, PICTURE, 4, 6, 6, 6, 6, 6, 6, 6, 6, *HEADER, 20]
    ids = torch.tensor([row, [*cut, 21]])
    mask = written(ids, HEADER, END)
    assert ids[0][mask[0]].tolist() == [20, 21, END, 23, END]
    assert ids[1][mask[1]].tolist() == [20, 21]
    assert not mask[ids == PICTURE].any()


def test_the_gradient_on_the_loops_own_tokens_is_exactly_zero_whatever_stands_there():
    given = rollouts()
    given["old"][~given["mask"]] = -float("inf")
    given["reference"][~given["mask"]] = 1e4
    given["now"].requires_grad_()
    loss = grpo_loss(**given, kl=0.1)
    loss.backward()
    gradient = given["now"].grad
    assert gradient is not None and torch.isfinite(loss)
    assert (gradient[~given["mask"]] == 0).all() and gradient[given["mask"]].abs().sum() > 0


def test_at_the_policy_that_wrote_it_each_token_is_pushed_by_its_advantage():
    given = rollouts()
    given["old"] = given["now"].clone()
    given["now"].requires_grad_()
    near: Any = given | {"reference": None}
    grpo_loss(**near).backward()
    wanted = -given["advantage"][:, None] * given["mask"] / given["mask"].sum(1, keepdim=True) / len(given["advantage"])
    assert given["now"].grad is not None and torch.allclose(given["now"].grad, wanted, atol=1e-7)


def test_a_ratio_beyond_the_clip_is_not_pushed_further():
    now = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], requires_grad=True)
    grpo_loss(
        now, torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.tensor([1.0, -1.0, -1.0, 1.0])
    ).backward()
    assert now.grad is not None and (now.grad[:2] == 0).all() and (now.grad[2:] != 0).all()


def test_staying_near_the_reference_costs_nothing_and_leaving_it_does():
    given: Any = rollouts() | {"advantage": torch.zeros(6)}
    itself: Any = given | {"reference": given["now"].clone()}
    same = grpo_loss(**itself, kl=1.0)
    assert float(same) == 0 and float(grpo_loss(**given, kl=1.0)) > 0


def test_log_probabilities_are_those_of_the_next_tokens():
    logits, ids = torch.randn(2, 4, 11), torch.randint(0, 11, (2, 4))
    found = log_probabilities(logits, ids)
    assert found.shape == (2, 3)
    assert float(found[1, 2]) == pytest.approx(float(logits[1, 2].log_softmax(-1)[ids[1, 3]]), abs=1e-6)


@pytest.mark.parametrize("kl", [0.0, 0.2])
def test_the_loss_is_trls(kl):
    """Of trl 1.16: GRPOTrainer._compute_loss with a tool mask, of the type `grpo`."""
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    given = rollouts(3)
    empty = torch.zeros(6, 0, dtype=torch.long)
    fake: Any = SimpleNamespace(
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=kl,
        loss_type="grpo",
        epsilon_low=0.2,
        epsilon_high=0.2,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        use_vllm=False,
        model=SimpleNamespace(training=False),
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (given["now"], torch.zeros(6, 12), None),
        accelerator=SimpleNamespace(gather=lambda each: each, reduce=lambda each, reduction: each, num_processes=1),
        _metrics={"eval": __import__("collections").defaultdict(list)},
    )
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": torch.zeros(6, 12, dtype=torch.long),
        "completion_mask": torch.ones(6, 12, dtype=torch.long),
        "tool_mask": given["mask"].long(),
        "advantages": given["advantage"],
        "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"],
    }
    theirs = trainer._compute_loss(fake, None, inputs)
    assert float(grpo_loss(**given, kl=kl)) == pytest.approx(float(theirs), abs=1e-6)
