"""Declares the packages, the ranges of their dependencies, and the console script.

Contains no logic: workers build this file too, and have only the standard library and setuptools.
requirements.txt contains the exact versions, which `make pins` derives from the ranges below.
"""

from setuptools import find_packages, setup

setup(
    name="beam-dedup",
    version="0.1.0",
    description="Find duplicate images, exact and near, with Apache Beam",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["beam_dedup", "beam_dedup.*", "transforms", "transforms.*"]),
    package_data={
        "beam_dedup": ["py.typed", "review/page/*", "beam_yaml/*.yaml"],
        "transforms": ["py.typed"],
    },
    zip_safe=False,
    install_requires=[
        "apache-beam>=2.77,<2.78",
        "Pillow>=12.3,<12.4",  # fingerprints are comparable only if the same decoder made them
        "ImageHash>=4.3.2,<4.4",  # the recipes of its codes name its version
        "fastavro>=1.13,<2",
        "FastWARC>=2.0.1,<2.1",
        "grpcio>=1.85,<2",
        "numpy>=2.1,<2.5",
        "protobuf>=6.33,<7",
        "psutil>=7,<8",
        "pyarrow>=25,<26",
        "rich>=15,<16",
        "zstandard>=0.25,<0.26",
    ],
    extras_require={
        "aws": ["apache-beam[aws]>=2.77,<2.78"],
        "gcp": ["apache-beam[gcp]>=2.77,<2.78"],
        "heif": ["pillow-heif>=1.8,<2"],
        "pdq": ["pdqhash>=0.2.8,<0.3"],
        "dev": [
            "apache-beam[aws,gcp]>=2.77,<2.78",  # tests read and write object stores
            "build>=1.6,<2",
            "datasets>=5.2,<6",
            "duckdb>=2.0.1,<3",
            "hypothesis>=6.170,<7",
            "ipykernel>=7.4,<8",  # tests execute notebooks
            "jsonschema>=4.26,<5",
            "kubernetes-validate>=1.37,<1.38",  # contains the schemas of Kubernetes
            "moto[s3,server]>=5.2.5,<5.3",  # an S3 server for tests
            "mypy>=2.4,<2.5",
            "nbclient>=0.11,<0.12",
            "nbformat>=5.11,<6",
            "pandas>=3.1.1,<4",
            "pdqhash>=0.2.8,<0.3",
            "pillow-heif>=1.8,<2",
            "polars>=2.1,<3",
            "pytest>=9.2,<10",
            "pytest-xdist>=3.8,<4",
            "PyYAML>=6.0.4,<7",
            "ruff>=0.17.6,<0.18",
            "setuptools>=77,<85",  # tests build the distributions
            "types-psutil>=7,<8",
        ],
    },
    entry_points={"console_scripts": ["dedup = beam_dedup.cli:entry"]},
    classifiers=[
        "Environment :: Console",
        "Operating System :: POSIX",
        "Private :: Do Not Upload",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Graphics",
        "Typing :: Typed",
    ],
)
