"""The packages; everything else is in pyproject.toml, which cannot name found packages and mapped folders together."""

from setuptools import find_packages, setup

# Inside a wheel the models and samples lie in the library, where NoisyLabelSegLib looks for them.
RESOURCES = {"NoisyLabelSegLib.models": "Resources/Models", "NoisyLabelSegLib.samples": "Resources/Samples"}

setup(
    packages=[*find_packages(include=["NoisyLabelSegLib*", "training*"]), *RESOURCES],
    package_dir=RESOURCES,
    package_data={"training": ["cards/**/*", "configs/**/*"], **{name: ["**/*"] for name in RESOURCES}},
    include_package_data=False,
)
