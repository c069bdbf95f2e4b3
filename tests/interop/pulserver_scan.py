"""Runs inside the environment of pulserver: a scan of its virtual scanner gets the header that its sequence has.

The scanner's own stream carries neither flags nor counters, nor a matrix; pulserver's proxy adds them, from the design that the
scanner played, and the functions that do so are called here. Arguments: the bare file, the store of designs, the file to write.
"""

import sys
from pathlib import Path

import ismrmrd
import ismrmrd.hdf5
import ismrmrd.xsd
from pulserver.proxy import DesignCache, SequenceTable, enrich_acquisition, enrich_header


def main(bare: str, store: str, written: str) -> None:
    source = ismrmrd.hdf5.Dataset(bare, "dataset", create_if_needed=False)
    header = ismrmrd.xsd.CreateFromDocument(source.read_xml_header())
    table = SequenceTable.read(Path(DesignCache(store).locate(header)) / "sequence.seq")
    enrich_header(header, table)
    target = ismrmrd.hdf5.Dataset(written, "dataset", create_if_needed=True)
    target.write_xml_header(ismrmrd.xsd.ToXML(header))
    for number in range(source.number_of_acquisitions()):
        acquisition = source.read_acquisition(number)
        enrich_acquisition(acquisition, table, number)
        target.append_acquisition(acquisition)
    target.close()
    source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
