"""A notebook, really executed: functions of its cells as objectives, one line of progress."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = [
    "import functools, mpibo\nscale = 2.0",
    "@functools.cache\ndef data():\n    return [0.25]\n\ndef train(x):\n    return scale * abs(x - data()[0])",
    "result = mpibo.minimize(train, {'x': (0.0, 1.0)}, max_trials=30, workers=2, out='run')",
    "print(len(result.trials), result.best.value < 0.1, {trial.state.value for trial in result.trials})",
]


def test_a_notebook(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert notebook.cells[3].outputs[0]["text"] == "30 True {'DONE'}\n"
    shown = [output["data"]["text/plain"] for output in notebook.cells[2].outputs if "data" in output]
    assert len(shown) == 1 and "30/30" in shown[0] and "best" in shown[0] and "ended: max_trials" in shown[0]
