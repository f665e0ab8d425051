"""Installs kerasland. Everything about the package that pip needs stands here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "kerasland/__init__.py").read_text()).group(1)
REQUIRED = [
    line
    for line in (HERE / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
EXTRAS = {
    "dicom": ["pydicom>=3.0", "imagecodecs>=2024.6.1", "SimpleITK>=2.4", "nibabel>=5.2"],
    "onnx": ["onnx>=1.17", "tf2onnx>=1.17", "onnxruntime>=1.21"],
    "openvino": ["openvino>=2026.4"],  # others lose what a loop of no pass began with
    "litert": ["ai-edge-litert>=2.0"],
    "serve": ["starlette>=0.40", "uvicorn>=0.30"],
    "docs": ["mkdocs-material>=9.8", "mkdocstrings[python]>=1.0", "latex2mathml>=3.81"],
    "report": ["plotly>=6.0", "jinja2>=3.1"],
}
DEVELOPMENT = [
    "pytest>=8",
    "pytest-xdist>=3.8",
    "ruff==0.17.6",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "ipykernel>=6.29",
    "selenium>=4.25",
]

setup(
    name="kerasland",
    version=VERSION,
    description="Landmark localisation in hand radiographs with a spatial configuration loss",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["kerasland", "kerasland.*", "data_prep"]),
    package_data={
        "kerasland": ["py.typed", "assets/*.json", "assets/pretrained/*/*", "assets/report/*"],
        "data_prep": ["folds/*/*.txt"],
    },
    install_requires=REQUIRED,
    extras_require={
        **EXTRAS,
        "dev": [
            *DEVELOPMENT,
            *EXTRAS["dicom"],
            *EXTRAS["onnx"],
            *EXTRAS["litert"],
            *EXTRAS["serve"],
            *EXTRAS["report"],
            *EXTRAS["docs"],
        ],
    },
    entry_points={"console_scripts": ["kerasland = kerasland.__main__:script"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
