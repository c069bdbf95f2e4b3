"""De-identification of the MRD XML header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recond_client.errors import InputError
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import REMOVED_UNKNOWN, Action, Area, Profile, Rule
from recond_client.privacy.record import Removed, Treatment
from recond_client.privacy.safe_xml import Element, escaped, parse

_NAMESPACE: Final = "http://www.ismrm.org/ISMRMRD"
_WHAT: Final = "The MRD header"


@dataclass(frozen=True)
class Deidentified:
    """A header without what tells who was scanned.

    Parameters
    ----------
    xml
        UTF-8, in the namespace of MRD.
    removed
        What was done, without the values.
    map
        The values, to be put back.
    """

    xml: bytes
    removed: tuple[Removed, ...]
    map: PatientMap


def deidentify_header(xml: bytes, profile: Profile, key: bytes) -> Deidentified:
    """Take out of an MRD header what may tell who was scanned, and everything that the profile does not name.

    Parameters
    ----------
    xml
        The header: UTF-8 or UTF-16, with any prefixes, up to 16 MiB; what follows a NUL is ignored.
    profile
        What becomes of which element, such as `RECOND_MRD_1`.
    key
        Of the site, 32 bytes: the same originals get the same replacements.

    Returns
    -------
    Deidentified
        The header that remains, what was done, and the map back.

    Raises
    ------
    InputError
        If this is no well-formed MRD header, or if it declares a document type. What is in it is never shown.
    ValueError
        If the key is shorter than 32 bytes.
    """
    treatment = new_treatment(profile, key)
    output = treat_header(xml, treatment)
    return Deidentified(output, treatment.removed, treatment.map)


def new_treatment(profile: Profile, key: bytes) -> Treatment:
    """Begin the treatment of a scan.

    Raises
    ------
    ValueError
        If the key is shorter than 32 bytes.
    """
    if len(key) < 32:
        msg = "the key must have at least 32 bytes: with a shorter one the originals could be guessed"
        raise ValueError(msg)
    return Treatment(profile, key)


def treat_header(xml: bytes, treatment: Treatment) -> bytes:
    """De-identify a header as a part of a scan.

    Raises
    ------
    InputError
        As `deidentify_header`.
    """
    document = parse(xml, _WHAT)
    if document.root.name != "ismrmrdHeader":
        msg = f"The root element of {_WHAT.lower()} is not 'ismrmrdHeader': this is not an MRD header."
        raise InputError(msg, reason="HEADER_NOT_ISMRMRD", field="xml")
    if document.comments:
        treatment.note(Area.HEADER, "(comments)", Action.REMOVE, count=document.comments)
    writer = _Writer(treatment)
    writer.children(document.root, "")
    inside = "".join(writer.pieces)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<ismrmrdHeader xmlns="{_NAMESPACE}">{inside}</ismrmrdHeader>\n'.encode()


class _Writer:
    """Writes what remains of a tree."""

    def __init__(self, treatment: Treatment) -> None:
        self.pieces: list[str] = []
        self._treatment = treatment
        self._profile = treatment.profile

    def children(self, parent: Element, place: str) -> None:
        """Write what remains of the children of an element that has no text of its own."""
        if parent.text:
            self._remove(_inside(place, "(text)"), parent.text)
        if parent.attributes:
            self._treatment.note(Area.HEADER, _inside(place, "(attributes)"), Action.REMOVE, count=parent.attributes)
        for child in parent.children:
            self._element(child, _inside(place, child.name), place)

    def _element(self, element: Element, place: str, parent: str) -> None:
        rule = self._profile.rule(Area.HEADER, place)
        if rule is not None and rule.names is not None:
            self._parameter(element, rule)
        elif rule is not None:
            self._leaf(element, rule)
        elif self._profile.is_container(place):
            self._container(element, place)
        else:
            self._remove(_inside(parent, REMOVED_UNKNOWN), element.all_text)

    def _container(self, element: Element, place: str) -> None:
        start = len(self.pieces)
        self.pieces.append(f"<{element.name}>")
        self.children(element, place)
        if len(self.pieces) == start + 1 and element.children:
            del self.pieces[start:]  # nothing remains of it
        else:
            self.pieces.append(f"</{element.name}>")

    def _leaf(self, element: Element, rule: Rule) -> None:
        if rule.action is Action.REMOVE:
            self._remove(rule.place, element.all_text)
            return
        if element.attributes:
            self._treatment.note(Area.HEADER, f"{rule.place}.(attributes)", Action.REMOVE, count=element.attributes)
        for child in element.children:
            self._remove(f"{rule.place}.{REMOVED_UNKNOWN}", child.all_text)
        text = element.text
        new = self._new_value(text, rule)
        if new is None:
            self._remove(rule.place, text)
            return
        if new != text:
            action = Action.CLEAN if rule.action is Action.KEEP else rule.action
            self._treatment.note(Area.HEADER, rule.place, action, text)
        self.pieces.append(f"<{element.name}>{escaped(new)}</{element.name}>")

    def _new_value(self, text: str, rule: Rule) -> str | None:
        if not text:
            return ""
        kept = rule.keep(text)
        if kept is not None or rule.action in {Action.KEEP, Action.CLEAN}:
            return kept
        return self._treatment.replaced(rule.action, text)

    def _parameter(self, element: Element, rule: Rule) -> None:
        name, value = element.child("name"), element.child("value")
        kept = rule.keep(value) if rule.lists(name) else None
        if kept is None:
            self._remove(rule.place, f"{name}={value}")
            return
        self.pieces.append(
            f"<{element.name}><name>{escaped(name)}</name><value>{escaped(kept)}</value></{element.name}>"
        )

    def _remove(self, place: str, text: str) -> None:
        self._treatment.note(Area.HEADER, place, Action.REMOVE, text)


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
