"""What the gateway reads of headers, in all the ways in which senders write them."""

from __future__ import annotations

import pytest

from recond_gateway.errors import SessionError
from recond_gateway.scan.header import read_header

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><institutionName>Universität</institutionName></acquisitionSystemInformation>
<encoding>
<encodedSpace><matrixSize><x>64</x><y>48</y><z>8</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>64</x><y>48</y><z>6</z></matrixSize></reconSpace>
<encodingLimits>
<kspace_encoding_step_1><minimum>0</minimum><maximum>47</maximum><center>24</center></kspace_encoding_step_1>
<average><minimum>0</minimum><maximum>1</maximum><center>0</center></average>
</encodingLimits>
</encoding>
<sequenceParameters><TE>3.5</TE><TE>7</TE><TI>900</TI></sequenceParameters>
</ismrmrdHeader>
"""


@pytest.mark.parametrize(
    "xml",
    [
        HEADER.encode(),
        b"\n " + HEADER.encode(),
        HEADER.encode("latin-1"),
        HEADER.encode("utf-16"),
        HEADER.encode("utf-8-sig"),
        HEADER.encode() + b"\0rest",
        HEADER.replace("UTF-8", "nonsense").encode(),
    ],
)
def test_headers_are_read_as_the_service_reads_them(xml):
    facts = read_header(xml)
    (encoding,) = facts.encodings
    assert (encoding.lines, encoding.volume, encoding.depth, encoding.averages) == ((0, 47), True, 6, 2)
    assert (facts.echo_times, facts.inversion_times) == ((3.5, 7.0), (900.0,))


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"PATIENT",
        b"<ismrmrdHeader",
        b"<ismrmrdHeader/>",
        HEADER.replace("ismrmrdHeader", "PATIENT").encode(),
        b"<!DOCTYPE a [<!ENTITY b 'PATIENT'>]>" + HEADER[39:].encode(),
        b"<a>" * 100_000 + b"</a>" * 100_000,
    ],
)
def test_what_is_no_header_is_refused_without_its_words(xml):
    with pytest.raises(SessionError, match="send the ISMRMRD header") as caught:
        read_header(xml)
    assert caught.value.reason == "BAD_HEADER"
    assert "PATIENT" not in str(caught.value)
