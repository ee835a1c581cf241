"""What pyproject.toml cannot say: the viewer and its words, whose one source is web/viewer and locales, go into the package
that inlines them."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["clvr_core", "clvr_core.*"]),
        "clvr_core.report.web",
        "clvr_core.report.locales",
    ],
    package_dir={"clvr_core.report.web": "web/viewer", "clvr_core.report.locales": "locales"},
)
