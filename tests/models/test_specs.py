"""Model specs by name, and the catalog of them."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from chiaroscuro import ChoiceError, catalog, load_classifier
from chiaroscuro.choices import DEFAULT_MODEL
from chiaroscuro.models import LIBRARIES, PACKAGED


@pytest.mark.parametrize("spec", ["nope", "resnet18", "torchvision:", "efficientnet", "no/place"])
def test_an_unknown_spec_lists_the_known_ones(spec):
    known = rf"known are {', '.join(catalog.SOURCES)}$"
    with pytest.raises(ChoiceError, match=rf"^unknown model '{spec}': .*{known}"):
        load_classifier(spec)


def test_a_network_of_a_library_without_its_prefix_is_told_the_prefix():
    with pytest.raises(ChoiceError, match="torchvision:resnet18 or timm:resnet18; known are"):
        load_classifier("resnet18")


def test_near_specs_are_suggested():
    with pytest.raises(ChoiceError, match=r"did you mean efficientnet-lite2 or .*lite0\? known"):
        load_classifier("EfficientNet-lite")


def test_the_catalog_describes_every_kind_of_spec():
    rows = list(catalog.SOURCES.values())
    with pytest.raises(ChoiceError, match="known are") as caught:
        load_classifier("nope")
    known = str(caught.value).split("known are ")[1].split(", ")
    assert [row.spec for row in rows] == known
    assert rows[0].spec == DEFAULT_MODEL
    assert all(row.loads and row.package for row in rows)
    assert [row.installed for row in rows] == [version(row.package) for row in rows]
    own = [*PACKAGED, "FILE.py:FACTORY", "ARCHITECTURE@FILE", "FOLDER"]
    assert {row.spec for row in rows if row.offline} >= set(own)
    assert sorted(known) == sorted([*own, *(f"{name}:NAME" for name in LIBRARIES)])


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    def missing(package):
        if package == "transformers":
            raise PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr(catalog, "version", missing)
    found = {row.package: row.installed for row in catalog.SOURCES.values()}
    assert found.pop("transformers") is None
    assert set(found.values()) == {"1.2.3"}
