"""What is asked of the machine: bfloat16 by what the system says of the processor; oneDNN; a Keras
that starts soon."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from kerasland import devices, machine


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind=None: [])


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu avx2 fma", False),
        ("avx512f avx512_bf16 avx512_vnni", True),
        ("amx_tile amx_bf16", True),
        ("asimd bf16 i8mm", True),
        ("avx512_bf16x", False),
    ],
)
def test_bfloat16_is_known_by_the_flags(tmp_path, monkeypatch, flags, native):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.multiplies_in_bfloat16() == native
    # as a training takes it
    chosen = devices.precision_here("auto", "run", quiet=False)
    assert chosen == ("bfloat16" if native else "float32")


def test_where_the_system_does_not_say_nothing_is_claimed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.multiplies_in_bfloat16() is None
    assert devices.precision_here("auto", "run", quiet=False) == "float32"
    assert devices.precision_here("bfloat16", "run", quiet=False) == "bfloat16"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("native", "said"), [(True, False), (False, True)])
def test_slow_bfloat16_is_said(monkeypatch, capsys, native, said):
    monkeypatch.setattr(machine, "multiplies_in_bfloat16", lambda: native)
    assert devices.precision_here("bfloat16", "runs/x", quiet=False) == "bfloat16"
    assert ("runs/x: precision=bfloat16" in capsys.readouterr().err) == said
    devices.precision_here("bfloat16", "runs/x", quiet=True)
    devices.precision_here("float32", "runs/x", quiet=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_a_gpu_says_it_by_its_capability(monkeypatch, capsys, capability, chosen):
    config = devices.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
    assert devices.precision_here("auto", "run", quiet=False) == chosen
    devices.precision_here("bfloat16", "run", quiet=False)
    said = capsys.readouterr().err
    assert ("this GPU has no instructions; precision=auto" in said) == (chosen == "float32")


@pytest.mark.parametrize(
    ("onednn", "flags", "slow"),
    [
        ("1", "fma avx2", True),
        ("1", "avx2 avx512f", False),
        ("0", "avx2", False),
        (None, "avx2", False),
    ],
)
def test_an_image_alone_is_slow_with_onednn_and_without_avx512(
    tmp_path, monkeypatch, onednn, flags, slow
):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if onednn:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    assert machine.slow_alone() == slow


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86-64")
@pytest.mark.parametrize(("given", "wanted"), [(None, "1"), ("0", "0")])
def test_onednn_is_taken_unless_told_otherwise(given, wanted):
    """Decided before TensorFlow is imported, and left alone after."""
    code = (
        "import os; from kerasland import machine; machine.compute_with_onednn();"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    if given is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == wanted, done.stderr


def test_onednn_is_not_touched_once_tensorflow_runs(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert "tensorflow" in sys.modules
    machine.compute_with_onednn()
    assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ


def test_without_hides_what_is_not_imported_yet(tmp_path, monkeypatch):
    (tmp_path / "not_imported_yet.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    with machine.without("not_imported_yet", "json"):
        with pytest.raises(ImportError):
            import not_imported_yet
        import json
    import not_imported_yet

    assert not_imported_yet.value == 7 and json.loads("1") == 1


NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795807282.224551    6499 port.cc:153] oneDNN custom operations are on.\n"
)


@pytest.mark.parametrize(("level", "flags"), [("3", "sse2 avx"), ("0", "avx"), ("3", "sse2")])
def test_what_tensorflow_says_while_it_is_imported(tmp_path, monkeypatch, capfd, level, flags):
    """Left out where nobody asked and it runs at all; what else is said there comes through."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    fault = "E0000 00:00:1795807282.224551    6499 a.cc:1] a fault\n"
    with pytest.raises(ImportError), machine._silenced():
        os.write(2, f"{NOISE}{fault}half a line".encode())
        raise ImportError("as any import may")
    print("after", file=sys.stderr)
    silent = level == "3" and "avx" in flags
    said = ("" if silent else NOISE) + f"{fault}half a lineafter\n"
    assert capfd.readouterr().err == said


def test_without_stderr_nothing_is_silenced():
    code = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; from kerasland import machine\n"
        "with machine._silenced(): print('done', sys.stderr)"
    )
    command = ["bash", "-c", '"$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done None\n")


@pytest.mark.slow
def test_a_command_says_nothing_of_tensorflow(tmp_path):
    command = [sys.executable, "-m", "kerasland", "predict", "x.png", "--out", "out"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: x.png: no such image\n")


@pytest.mark.slow
def test_to_predict_the_command_line_loads_no_more_than_it_needs():
    """Not what Keras would import, and later whoever wants it gets it whole."""
    code = """
import sys
from kerasland import machine
machine.import_keras()
from kerasland import model_files, predict
heavy = {"IPython", "matplotlib", "sklearn", "scipy.stats"}
assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)
import matplotlib.pyplot, sklearn.linear_model, keras
assert matplotlib.pyplot.figure and sklearn.linear_model.LinearRegression and keras.Model
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
