"""What pyproject.toml cannot say: the viewer, whose one source is web/viewer, goes into the package that inlines it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["clvr_core", "clvr_core.*"]), "clvr_core.report.web"],
    package_dir={"clvr_core.report.web": "web/viewer"},
)
