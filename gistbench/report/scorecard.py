"""A run directory in, a scorecard out: as a page, as a record and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gistbench.judgements import JUDGE_FILE, Judgement, read_judgements
from gistbench.report.card import ArmFigures, Published, Scorecard, Verdict
from gistbench.report.criteria import CriteriaBlock, load_criteria
from gistbench.report.discrimination import in_words, task_statuses
from gistbench.report.evidence import Evidence, load_evidence
from gistbench.report.page.pages import html_page, markdown_page
from gistbench.report.page.written import Pages, write_pages
from gistbench.report.sections.columns import main_arms, only_main_arms
from gistbench.report.sections.comparisons import comparisons, headline, paired_matrix
from gistbench.report.sections.depth import depth_tables
from gistbench.report.sections.environment import environment_lines, task_lines
from gistbench.report.sections.fairness import fairness
from gistbench.report.sections.figures import arm_figures
from gistbench.report.sections.judged import judged
from gistbench.report.sections.latency import latency
from gistbench.report.sections.length_table import effective_lengths
from gistbench.report.sections.needle import needle_maps
from gistbench.report.sections.recovered import bits_notes, bits_points
from gistbench.report.sections.samples import samples_shown
from gistbench.report.sections.tables import comparison_tables, looser_table, phase_table
from gistbench.report.sections.timeline import memory_notes, memory_tracks
from gistbench.report.sections.tradeoff import tradeoff
from gistbench.report.shown import Line
from gistbench.report.validity import shown_checks
from gistbench.report.verdicts import judge_run, score
from gistbench.storage import read_json


def render(run_dir: Path, published: Path | None = None) -> Pages:
    """Write `scorecard.html`, `scorecard.json` and `scorecard.md` into a run directory.

    Args:
        run_dir: What `gistbench run` wrote.
        published: Another run's `scorecard.json`, shown beside this one.

    Raises:
        UsageError: A record is missing or broken, or the folder cannot be written.
    """
    evidence = load_evidence(run_dir)
    card = build_scorecard(
        evidence,
        load_criteria(),
        read_json(published, Scorecard) if published else None,
        read_judgements(run_dir / JUDGE_FILE),
    )
    return write_pages(
        run_dir, "scorecard", card, html=html_page(card), markdown=markdown_page(card)
    )


def build_scorecard(
    evidence: Evidence,
    criteria: CriteriaBlock,
    published: Scorecard | None = None,
    judgements: Sequence[Judgement] = (),
) -> Scorecard:
    """Work out every figure of the scorecard."""
    run = evidence.run
    verdicts, arms = judge_run(criteria, evidence), arm_figures(evidence)
    ratio = next((v.value_text for v in verdicts if v.id == "compression_ratio" and v.value), "")
    checkpoint = run.checkpoint.name if run.checkpoint else "no gist checkpoint"
    tracks = memory_tracks(evidence)
    checks = shown_checks(evidence)
    comparison, rivals = comparison_tables(arms, evidence)
    paired, pairs = comparisons(evidence)
    bits = bits_points(evidence)
    title = f"{run.base.name}, {checkpoint}, {ratio or 'compression not measured'}"
    if published is not None:
        verdicts = _beside_published(verdicts, published)
    return Scorecard(
        title=title,
        model=run.base.name,
        checkpoint=checkpoint,
        ratio=ratio,
        created=run.created,
        base_fingerprint=run.base.fingerprint,
        checkpoint_sha256=run.checkpoint.sha256 if run.checkpoint else None,
        prompts=_prompts(evidence),
        weights_note=run.base.weights_note,
        fairness=(*fairness(evidence), *headline(pairs, evidence)),
        score=score(verdicts),
        invalid=tuple(check.text for check in checks if check.status == "INVALID-LEAK"),
        verdicts=verdicts,
        checks=checks,
        arms=arms,
        comparison=comparison,
        rivals=rivals,
        looser=looser_table(arms, evidence),
        task_status=task_statuses(evidence),
        discrimination=in_words(evidence),
        paired=paired,
        pairs=pairs,
        paired_matrix=paired_matrix(paired, pairs, evidence),
        effective_length=effective_lengths(evidence),
        bits=bits,
        bits_notes=bits_notes(bits),
        tradeoff=tradeoff(evidence),
        depth=depth_tables(evidence),
        needle_maps=needle_maps(evidence),
        latency=latency(evidence),
        memory=tracks,
        memory_notes=memory_notes(run.arms, tracks),
        memory_phases=phase_table([arm for arm in run.arms if arm.name in main_arms(evidence)]),
        only_main_arms=only_main_arms(evidence),
        samples=samples_shown(evidence, judgements),
        judged=judged(evidence, judgements),
        tasks=task_lines(evidence),
        environment=environment_lines(run),
        notes=run.notes,
        command=run.command,
        published=_published(published, evidence, arms) if published else None,
    )


def _beside_published(verdicts: tuple[Verdict, ...], published: Scorecard) -> tuple[Verdict, ...]:
    others = {verdict.id: verdict for verdict in published.verdicts}
    return tuple(
        verdict.model_copy(update={"published": _in_one_line(others[verdict.id])})
        if verdict.id in others
        else verdict
        for verdict in verdicts
    )


def _in_one_line(verdict: Verdict) -> str:
    parts = (verdict.value_text, verdict.interval_text) if verdict.value is not None else ()
    return "; ".join(part for part in (verdict.outcome_text, *parts) if part)


def _published(other: Scorecard, evidence: Evidence, arms: tuple[ArmFigures, ...]) -> Published:
    """The other scorecard's main figures, and whether it is about the same weights."""
    run = evidence.run
    here = run.checkpoint.sha256 if run.checkpoint else None
    same = other.base_fingerprint == run.base.fingerprint and other.checkpoint_sha256 == here
    alike = other.prompts.items() & _prompts(evidence).items()
    if not same:
        comparability = "another base model or checkpoint: not the same thing measured again"
    elif not alike:
        comparability = (
            "same base model and checkpoint, but another version, split or length of the task: "
            "other prompts"
        )
    else:
        comparability = "same base model, checkpoint and version of the task"
    lines = []
    names = [arm.name for arm in arms] + [a.name for a in other.arms]
    shared = {evidence.label(task) for task in run.tasks} & other.prompts.keys()
    for name in dict.fromkeys(names):
        arm = next((found for found in other.arms if found.name == name and found.main), None)
        for task, figures in (arm.accuracy if arm else {}).items():
            found = figures["exact_match"]
            if found.value is not None and (task in shared or not shared):
                lines.append(Line(label=f"{name}, {task}", text=f"{found.text} ({found.detail})"))
    n = next((v.n for v in other.verdicts if v.id == "passkey_accuracy" and v.n), None)
    return Published(
        title=other.title,
        label=f"published result, n = {n:,}" if n else "published result",
        score=f"{other.score.text}, {other.score.measurable}",
        comparability=comparability,
        lines=tuple(lines),
    )


def _prompts(evidence: Evidence) -> dict[str, str]:
    """What decides whether two runs of a task ask alike prompts."""
    return {
        evidence.label(task): f"version {task.version}, {task.split}, {task.context_tokens} tokens"
        for task in evidence.run.tasks
    }
