"""From a data set of the hub, or a local folder of the same layout, to tables whose rows know their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dactcli.data.rows import Table
from dactcli.errors import DactError, DataError, ResourceError, did_you_mean, first_line


def read_hub(
    name: str,
    config: str | None,
    parts: Mapping[str, list[str]],
    labels: list[str] | None,
    label: str,
    *,
    revision: str | None = None,
) -> dict[str, list[Table]]:
    """Read splits of a data set of the hub, or of a local folder of the same layout.

    Args:
        name: Its name, or the folder.
        config: Its configuration, where it has several.
        parts: Hub splits by split of ours.
        labels: The class names that the recipe gives, if it does.
        label: The label column. Where it declares class names, and the recipe gives none or the same, its
            numbers become names, so that another order cannot swap classes.
        revision: Branch, tag or commit of the data set; its main branch when None.

    Raises:
        DataError: There is no such data set, configuration or split.
        ResourceError: The hub cannot be reached, or the disk is full.
    """
    loaded = _load_quietly(name, config, revision)
    for split, names in parts.items():
        for part in names:
            if part not in loaded:
                fault = f"{name} has no split {part} among: {', '.join(loaded)}"
                raise DataError(fault, place=f"data.{split}", remedy=did_you_mean(part, loaded))
    return {
        split: [_hub_table(f"{name}:{part}", loaded[part], labels, label) for part in names]
        for split, names in parts.items()
    }


def _hub_table(source: str, dataset: Any, labels: list[str] | None, label: str) -> Table:
    columns = {column: dataset[column][:] for column in dataset.column_names}
    feature = dataset.features.get(label)
    names = getattr(getattr(feature, "feature", feature), "names", None)  # of a class, or of a list of labels
    if names and (labels is None or set(labels) == set(names)):

        def named(value: Any) -> Any:
            if isinstance(value, list):
                return [named(one) for one in value]
            return names[value] if value in range(len(names)) else value

        columns[label] = [named(value) for value in columns[label]]
    return Table(source, columns, list(range(1, len(dataset) + 1)), labels=names)


def _load_quietly(name: str, config: str | None, revision: str | None) -> Any:
    import datasets

    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # whatever a loader or the network may raise, the user needs a sentence
        raise _hub_error(name, error) from error
    finally:
        if not silent:
            datasets.enable_progress_bars()


def _hub_error(name: str, error: Exception) -> DactError:
    reason = first_line(error.__cause__ or error)
    remedy = "check data.name and data.config, or use data.source: files"
    if isinstance(error, ConnectionError):
        fault = f"the hub cannot be reached to fetch {name}"
        return ResourceError(fault, place="data.name", remedy="connect, or use data.source: files")
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return ResourceError(f"{name} cannot be fetched ({reason})", place="data.name", remedy=remedy)
    return DataError(f"{name} cannot be loaded ({reason})", place="data.name", remedy=remedy)
