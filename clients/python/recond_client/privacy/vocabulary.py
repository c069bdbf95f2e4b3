"""Words that may stay in free text of a header: makers, families of scanners, parts of the body, names of sequences and coils."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a text, as they are written."""
    return tuple(text.split())


VENDORS: Final = _words(
    "Siemens SIEMENS_HEALTHCARE Healthcare Healthineers GE GEMS General Electric Medical Systems Philips Canon "
    "Toshiba Hitachi Fujifilm United Imaging UIH Bruker BioSpin MRI Agilent Varian Hyperfine Esaote Paramed Mindray "
    "Neusoft Synaptive Aspect ONI Fonar Time Imaging Resonance Research Tesla Company Corporation GmbH AG Inc Ltd "
    "ISMRM ISMRMRD Synthetic simulated recond pulserver"
)

MODELS: Final = _words(
    "Magnetom Aera Altea Amira Avanto Cima.X Cima Espree Essenza Flow Free.Max Free.Star Harmony Impact Lumina "
    "Prisma Prisma_fit PrismaFit Sempra Skyra Skyra_fit Sola Sonata Spectra Symphony Terra Terra.X TrioTim Trio Tim "
    "Verio Vida Concerto Allegra Biograph mMR Avanto_fit Fit Signa Artist Architect Explorer Excite HDx HDxt HDe "
    "Premier Pioneer Voyager Creator Victor Hero Champion Discovery Optima Brivo MR MR360 MR430s MR355 MR450 MR450w "
    "MR750 MR750w PET/MR Achieva Ambition Elition Ingenia Intera Ingenuity Multiva Panorama Prodiva Evolution "
    "Gyroscan dStream TX CX Vantage Titan Galan Orian Elan Centurian Fortian Atlas Echelon Oasis Aperto Airis Oval "
    "Smart uMR uPMR Jupiter Omega BioSpec PharmaScan ClinScan Swoop MS II III IV Plus Pro Elite 1.5T 3T 3.0T 7T "
    "0.5T X S"
)

BODY_PARTS: Final = _words(
    "abdomen ankle aorta arm brain breast cardiac cervix chest cspine elbow extremity eye face femur finger foot "
    "forearm hand head heart hip iac jaw kidney knee larynx leg liver lspine lowerleg lung mandible neck orbit "
    "pancreas pelvis phantom pituitary prostate rectum sacrum shoulder skull spine spleen sspine thigh thorax toe "
    "tspine upperarm uterus wholebody wrist whole body cervical lumbar thoracic upper lower headneck head_neck tmj"
)

SEQUENCES: Final = _words(
    "flash turboflash turbospinecho tse fse spinecho se epi ep gre gradientecho trufi truefisp bssfp fisp psif "
    "haste mprage mp2rage space vibe dess ciss stir flair tirm radial spiral propeller blade cine csi spectroscopy "
    "press steam dwi dti asl swi tof mra fiesta fgre spgr bravo cube ssfse lava tfe ffe btfe tir ute zte petra mrf "
    "gradient spin echo turbo fast inversion recovery 2d 3d"
)

DIFFUSION_SCHEMES: Final = _words("bipolar monopolar stejskal-tanner trse ogse bipolar_trse")

COILS: Final = _words(
    "head neck body spine breast knee shoulder wrist hand foot ankle flex large small extremity cardiac torso "
    "abdomen pelvis leg peripheral angio matrix array coil channel chan element receiver birdcage loop anterior "
    "posterior left right upper lower headneck headnecktcs bodymatrix spinematrix tim volume surface phased quad "
    "nova ultraflex contour biocontour air"
)

ACQUISITIONS: Final = _words(
    "CORPD_FBK CORPDFS_FBK AXT1 AXT1PRE AXT1POST AXT2 AXFLAIR AXDIFF AXT2_FBK T1 T2 PD FLAIR AX COR SAG FS FBK "
    "simulated SIMULATED brain knee prostate breast"
)
"""What the attribute `acquisition` of fastMRI files says."""
