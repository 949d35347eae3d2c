"""The published tables by their own arithmetic, and own figures compared with them."""

from __future__ import annotations

import csv
import json

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError
from evalsuite.suites.figures import Figure
from evalsuite.wildchat.own_results import RowMap, read_map
from evalsuite.wildchat.published import Making, Value, published_tables
from evalsuite.wildchat.side_by_side import paper_analysis, verdict

TABLES = {table.id: table for table in published_tables()}
SEVEN = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro", "mixeval")


def numbers(table, label):
    return {key: value.number for key, value in TABLES[table].rows[label].items()}


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "table6", "table7", "figure2"])
def test_every_printed_figure_is_there(shared, name):
    file = "fig2_scaling.csv" if name == "figure2" else f"{name}.csv"
    rows = list(csv.reader((shared / "reference" / "paper" / file).read_text().splitlines()))
    heads = {"row", "dgm", "quantity_k", rows[0][0]}
    printed = [
        float(cell) for row in rows[1:] for head, cell in zip(rows[0], row, strict=True) if head not in heads and cell
    ]
    assert sorted(printed) == sorted(v.number for row in TABLES[name].rows.values() for v in row.values())


@pytest.mark.parametrize("name", ["table6", "table7"])
def test_avg_is_the_mean_of_seven_columns_not_of_nine(name):
    nine_differs = 0
    for label in TABLES[name].rows:
        row = numbers(name, label)
        seven = sum(row[key] for key in SEVEN) / 7
        nine = (7 * seven + row["mt_bench"] / 10 + row["alpaca_eval"] / 100) / 9
        # Every cell is known to 0.005, and so is the mean of them; the printed mean adds as much.
        assert abs(seven - row["avg"]) <= 0.0101
        nine_differs += abs(nine - row["avg"]) > 0.0101
    assert nine_differs >= 1


def test_figure_2_at_250k_is_the_seven_column_mean_of_table_2():
    for dgm in ("L8I", "L70", "Q72"):
        row = numbers("table2", dgm)
        assert sum(row[key] for key in SEVEN) / 700 == pytest.approx(
            numbers("figure2", f"{dgm} (250k)")["avg"], abs=6e-4
        )


def test_table_3s_ratios_are_those_of_its_counts_and_the_text_swaps_two_names():
    pairs = {
        "PF | L8B : L70, L70 : None": ("L8B : L70", "L70 : None"),
        "PF | L8B : Q72, Q72 : None": ("L8B : Q72", "Q72 : None"),
        "PF | L8B : Q72, L8B : L70": ("L8B : Q72", "L8B : L70"),
    }
    means = {}
    for label, (a, b) in pairs.items():
        ratios, above, below = numbers("table3", label), numbers("table3", a), numbers("table3", b)
        for key, ratio in ratios.items():
            if below[key]:
                assert above[key] / below[key] == pytest.approx(ratio, abs=6e-4), (label, key)
            else:
                assert (above[key], ratio) == (0, 1)
        means[label] = sum(ratios.values()) / len(ratios)
    llama, qwen, between = means.values()
    assert (round(llama, 2), round(qwen, 2), round(between, 2)) == (0.90, 1.05, 2.61)
    assert any("swapped" in note for note in TABLES["table3"].notes)


def test_table_4s_rates_are_eightieths():
    for label in TABLES["table4"].rows:
        for key, value in numbers("table4", label).items():
            if key.startswith("over_"):
                assert value * 80 / 100 == round(value * 80 / 100)
    assert numbers("table4", "L8B : L70")["over_l8q"] == 100 * 18 / 80


def test_table_2_rounds_to_table_6():
    for label in ("L8I", "Q7", "L70"):
        exact, printed = numbers("table2", label), numbers("table6", f"L8B : {label}")
        assert all(abs(exact[key] / 100 - printed[key]) <= 0.00501 for key in SEVEN)


def test_four_of_table_2s_columns_have_a_small_model_first():
    rows = {label: numbers("table2", label) for label in TABLES["table2"].rows}
    best = {key: max(rows, key=lambda label: rows[label][key]) for key in rows["Q72"]}
    assert {key for key, label in best.items() if label in {"L8I", "Q7"}} == {"musr", "ifeval", "mmlu_pro", "mixeval"}


def test_table_5_has_26_models_and_table_1_adds_up():
    assert len(TABLES["table5"].rows) == 26
    assert sum(row["n"].number for row in TABLES["table1"].rows.values()) == 366_550


def test_labels_say_how_a_model_was_made():
    assert TABLES["table2"].makings["Q72"] == Making("L8B", ("Q72",), 250_000)
    assert TABLES["table6"].makings["Q7 : None"] == Making("Q7")
    assert TABLES["table7"].makings["L8B : Q72 + L70 (500k)"] == Making("L8B", ("Q72", "L70"), 500_000)
    assert TABLES["figure2"].makings["L8I (100k)"] == Making("L8B", ("L8I",), 100_000)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (Figure(6.864), "same"),
        (Figure(6.87), "no interval"),
        (Figure(7.0, ci95=(6.864, 7.2)), "within"),
        (Figure(7.0, ci95=(6.87, 7.2)), "outside"),
        (Figure(), "missing"),
    ],
)
def test_a_printed_figure_is_known_to_half_its_last_digit(own, expected):
    assert verdict(Value(6.86, 0.005), own) == expected


def model_folder(results, name, *, base=None, dgm=None, size=None, mt_bench=6.9, bbh=0.48):
    folder = results / name
    folder.mkdir(parents=True)
    suites = {
        "mt_bench": {
            "score": mt_bench,
            "stderr": 0.1,
            "ci95": [mt_bench - 0.2, mt_bench + 0.2],
            "n": 160,
            "n_scored": 160,
        },
        "openllm": {"bbh": {"score": bbh, "stderr": 0.01, "n": 5761}, "gpqa": None, "unscored": {"gpqa": "gated"}},
    }
    scores = {
        "schema": 1,
        "model": {"name": name, "fingerprint": "f"},
        "judge": None,
        "data": "full",
        "limit": None,
        "suites": suites,
        "average": {"paper": None},
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    training = {"base": base, "dgm": dgm, "n_conversations": size} if base else None
    (folder / "manifest.json").write_text(json.dumps({"training": training}))


def lines(analysis, table):
    return next(each for each in analysis.tables if each.id == table).rows


def test_rows_are_matched_by_lineage_and_compared_cell_by_cell(tmp_path):
    model_folder(tmp_path, "mine", base="meta-llama/Llama-3.1-8B", dgm="Qwen/Qwen2.5-72B-Instruct", size=246_750)
    analysis = paper_analysis(tmp_path, only=("table2",))
    paper, own, difference = lines(analysis, "table2")[:3]
    assert (paper["row"], paper["mt_bench"]) == ("Q72", 6.86)
    assert own["whose"] == "mine"
    assert own["mt_bench_ci95"] == pytest.approx([6.7, 7.1])
    assert own["bbh"] == pytest.approx(48.0)
    assert own["gpqa"] is None
    assert own["gpqa_why"]
    assert difference["mt_bench"] == pytest.approx(0.04)
    assert difference["agrees"] == "2 of 2"
    cells = {(row["column"], row["verdict"]) for row in lines(analysis, "cells")}
    assert cells == {("MTBench", "within"), ("BBH", "within")}


def test_another_size_is_not_taken_unless_mapped(tmp_path):
    model_folder(tmp_path, "small", base="Llama-3.1-8B", dgm="Qwen2.5-72B-Instruct", size=1000)
    alone = paper_analysis(tmp_path, only=("table2",))
    assert all(row["whose"] == "paper" for row in lines(alone, "table2"))
    table = next(each for each in alone.tables if each.id == "table2")
    assert any("1000 conversations, not 250000" in note for note in table.notes)
    mapped = paper_analysis(tmp_path, RowMap({"Q72": "small"}), ("table2",))
    assert lines(mapped, "table2")[1]["whose"] == "small"


def test_short_names_can_mean_other_models(tmp_path):
    model_folder(tmp_path, "tiny", base="demo", dgm="dgm-a", size=300)
    chosen = RowMap(aliases={"L8B": "demo", "Q72": "dgm-a"})
    assert lines(paper_analysis(tmp_path, chosen, ("table6", "table2")), "table2")[1]["whose"] == "tiny"


def test_preferences_and_flips_come_from_comparisons(tmp_path):
    # The DGM has recorded answers only.
    for name in ("l", "q"):
        model_folder(tmp_path, name)
    folder = tmp_path / "comparisons" / "c"
    folder.mkdir(parents=True)
    pair = {"a": "q", "b": "l", "rate_a": 0.45, "rate_b": 0.2, "ci95_a": [0.35, 0.55], "ci95_b": [0.1, 0.24]}
    document = {
        "models": ["q", "l", "dgm"],
        "pairs": [pair],
        "flips": [{"dgm": "dgm", "own": "q", "other": "l", "count": 6}],
    }
    (folder / "preferences.json").write_text(json.dumps(document))
    chosen = RowMap({"L8B : L70": "l", "L8B : Q72": "q", "Q72 : None": "dgm"})
    found = {(row["row"], row["column"]): row for row in lines(paper_analysis(tmp_path, chosen, ("table4",)), "cells")}
    assert found[("L8B : Q72", "PrefRt-L8L")]["own"] == pytest.approx(45)
    assert found[("L8B : Q72", "PrefRt-L8L")]["verdict"] == "within"
    assert found[("L8B : L70", "PrefRt-L8Q")]["own_ci95"] == pytest.approx([10, 24])
    assert found[("Q72 : None", "FlipCt")]["verdict"] == "same"


def test_similarity_analyses_are_compared_with_table_5(tmp_path):
    from evalsuite.analysis.document import Analysis, Column, Table, write_analysis

    row = {"model": "Qwen2.5-72B-Instruct", "avg_rouge1": 0.35, "avg_rouge1_ci95": [0.34, 0.36]}
    columns = [Column("model", "Model"), Column("avg_rouge1", "ROUGE-1", "float3")]
    write_analysis(tmp_path, Analysis("similarity", "x", "t", "a", {}, [Table("models", "t", columns, [row])]))
    cells = lines(paper_analysis(tmp_path, only=("table5",)), "cells")
    assert [(cell["column"], cell["verdict"]) for cell in cells] == [("avg_rouge1", "within")]


def test_without_figures_the_tables_stand_alone_and_are_written(tmp_path):
    done = CliRunner().invoke(app, ["paper", "--results", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["kind"] == "paper"
    assert [table["id"] for table in document["tables"]] == [*(f"table{i}" for i in range(1, 8)), "figure2"]
    assert document["provenance"]["verdicts"] == {
        "missing": sum(len(row) for t in TABLES.values() if not t.judge for row in t.rows.values())
    }
    assert (tmp_path / "analyses" / "paper-wildchat-50m" / "table5.csv").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L8B : Q9: mine", "is not YAML"),
        ("'L8B : Q9': mine", "no published table has the row 'L8B : Q9'"),
        ("aliases: {L9: x}", "unknown short name 'L9'"),
        ("[1]", "not a mapping"),
    ],
)
def test_a_broken_map_is_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_map(path)


def test_an_unknown_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="unknown table 'table9'; known: table1"):
        paper_analysis(tmp_path, only=("table9",))


def arena_folder(results, name, judge, score, **suite):
    folder = results / f"{name}-{judge}"
    folder.mkdir(parents=True)
    figures = {"score": score, "stderr": 1.0, "ci95": [score - 2, score + 2], "n": 500, "n_scored": 500, **suite}
    scores = {
        "schema": 1,
        "model": {"name": name, "fingerprint": "f"},
        "judge": {"name": judge},
        "data": "full",
        "limit": None,
        "suites": {"arena_hard_v0_1": figures},
        "average": {},
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "manifest.json").write_text("{}")
    return folder


def test_the_leaderboard_is_the_published_file(shared):
    file = shared / "mirror/raw/arena_hard/leaderboard/arena_hard_leaderboard_20240731.csv"
    rows = {row["model"]: row for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}
    table = TABLES["arena_hard_v0_1"]
    assert table.rows.keys() == rows.keys()
    for name, row in rows.items():
        score = table.rows[name]["score"]
        assert (score.number, score.ci95) == (
            float(row["score"]),
            (float(row["rating_q025"]), float(row["rating_q975"])),
        )
        assert table.rows[name]["tokens"].number == float(row["avg_tokens"])
    judged = (shared / "mirror/raw/arena_hard/config/arena-hard-v0.1.yaml").read_text(encoding="utf-8")
    assert f"judge_model: {table.judge}\n" in judged


def test_only_figures_of_the_leaderboards_judge_and_protocol_stand_beside_it(tmp_path):
    judge = TABLES["arena_hard_v0_1"].judge
    arena_folder(tmp_path, "gpt-3.5-turbo-0125", judge, 24.0, baseline="gpt-4-0314")
    arena_folder(tmp_path, "gpt-3.5-turbo-0125", "demo", 90.0, baseline="gpt-4-0314")
    mine = arena_folder(tmp_path, "mine", judge, 60.0, judge_prompt="published")
    # An import names the judges of all its suites together.
    several = {
        "name": f"gpt-4, {judge}",
        "methods": {"arena_hard_v0_1": f"recorded by {judge}", "mt_bench": "recorded by gpt-4"},
    }
    document = json.loads((mine / "scores.json").read_text())
    (mine / "scores.json").write_text(json.dumps(document | {"judge": several}))
    arena_folder(tmp_path, "other-prompt", judge, 80.0, judge_prompt="own")
    analysis = paper_analysis(tmp_path, only=("arena_hard_v0_1",))
    [table] = [table for table in analysis.tables if table.id == "arena_hard_v0_1"]
    assert {row["whose"] for row in table.rows if row["row"] in TABLES[table.id].rows} == {f"published, judge {judge}"}
    place = next(number for number, row in enumerate(table.rows) if row["row"] == "gpt-3.5-turbo-0125")
    _, own, difference = table.rows[place : place + 3]
    assert (own["score"], difference["score"]) == (24.0, pytest.approx(0.66))
    names = [row["row"] for row in table.rows]
    assert names[names.index("mine") - 1] == "claude-3-opus-20240229", "60.36, and the next one has 57.51"
    assert {row.get("score") for row in table.rows}.isdisjoint({90.0, 80.0})
    assert any("its judge is demo" in note for note in table.notes)
    assert any("other-prompt" in note and "judge prompt is own" in note for note in table.notes)
    assert [cell["verdict"] for cell in lines(analysis, "cells")] == ["within"]
