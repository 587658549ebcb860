from dashboard.evaluation import evaluation_rows
from dashboard.results import table_rows

BEFORE = {"exact_match": 0.41, "exact_match_interval": [0.367, 0.454], "n": 500, "perplexity": {"text": 7.314}}
AFTER = {**BEFORE, "exact_match": 0.63, "baseline_difference": {"mean": 0.22, "low": 0.181, "high": 0.259, "n": 500}}


def test_each_evaluation_is_a_row_with_intervals() -> None:
    first, second = evaluation_rows([("evaluate-sft", BEFORE), ("evaluate-rlhf", AFTER)])
    assert first["Exact match"] == "41.0 % (36.7 to 45.4 %)"
    assert first["Against the baseline"] == "–"
    assert first["Perplexity, text"] == "7.314"
    assert second["Against the baseline"] == "+22.0 % (+18.1 to +25.9 %)"


def test_a_wide_table_is_turned_and_keeps_every_cell() -> None:
    wide = {"train": {f"family{index}": index for index in range(9)}, "heldout": {"family0": 4}}
    rows = table_rows(wide)
    assert rows[0] == {"Name": "Family0", "Train": "0", "Heldout": "4"}
    assert [row["Train"] for row in rows] == [str(index) for index in range(9)]
    assert table_rows({"a": 1, "b": [True]}) == [{"Name": "A", "Value": "1"}, {"Name": "B", "Value": "yes"}]
