"""What a person reads at the end: the table and the sentences below it."""

from bitzero.run import evaluate


def test_the_table_and_sentences_say_what_was_measured():
    row = {
        "level": 0, "kind": "deduction", "mode": "trace", "n": 200, "accuracy": 0.605, "ci_low": 0.536, "ci_high": 0.67,
        "trivial": 0.1, "shuffled": 0.025, "before_selfplay": None, "pass@8": 0.8, "majority@8": 0.7, "different": 0.58,
        "cut": 3, "unseen": 0.412, "unseen_n": 68,
    }  # fmt: skip
    cells = [list(column.cells) for column in evaluate.accuracy_table([row]).columns]
    expected = ["L0", "deduction", "trace", "200", "60.5", "53.6–67.0", "10.0", "2.5", "80.0", "70.0", "–"]
    assert [cell for (cell,) in cells] == expected
    shares = {"valid": 0.5, "novel": 0.9, "level_as_asked": 0.625, "learnable": None}
    proposer = {"n": 192, **shares, "levels": {"0": 90, "1": 6}}
    gain = {"gain": 0.012, "ci_low": -0.03, "ci_high": 0.05, "n": 600}
    result = {"rows": [row], "proposer": proposer, "gain_of_selfplay": {"deduction": gain}}
    assert evaluate.summary_sentences(result) == [
        "each program once, %: L0 deduction 58.0",
        "skeletons never trained on, % (questions): L0 deduction 41.2 (68)",
        "too long to ask, counted wrong: L0 deduction 3",
        "proposer: 50.0 % of 192 proposals pass every gate; of these 90.0 % are new programs, 62.5 % of the level "
        "asked for and – % learnable",
        "levels of accepted proposals: L0 90 L1 6",
        "self-play changed deduction by +1.2 points (95 % -3.0 to +5.0, 600 items)",
    ]
