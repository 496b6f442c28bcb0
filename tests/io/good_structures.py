"""Good crystal files that tests damage, and how to read them back from text."""

from qhrtem_jax.io.structures import read_unit_cell

STO = """data_cubic
_chemical_formula_sum 'O3 Sr Ti'
_cell_formula_units_Z 1
_cell_length_a 3.905(1)
_cell_length_b 3.905(1)
_cell_length_c 3.905(1)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
_space_group_IT_number 221
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Sr1 Sr2+ 0 0 0 1 0.0079
Ti1 Ti4+ 0.5 0.5 0.5 1 0.0056
O1 O2- 0.5 0.5 0 1 0.0091
"""

LINBO3 = """data_linbo3
_cell_length_a 5.148
_cell_length_b 5.148
_cell_length_c 13.863
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_space_group_name_H-M_alt 'R 3 c :H'
_space_group_IT_number 161
loop_
_space_group_symop_operation_xyz
x,y,z
-y,x-y,z
-x+y,-x,z
-y,-x,z+1/2
-x+y,y,z+1/2
x,x-y,z+1/2
x+2/3,y+1/3,z+1/3
-y+2/3,x-y+1/3,z+1/3
-x+y+2/3,-x+1/3,z+1/3
-y+2/3,-x+1/3,z+5/6
-x+y+2/3,y+1/3,z+5/6
x+2/3,x-y+1/3,z+5/6
x+1/3,y+2/3,z+2/3
-y+1/3,x-y+2/3,z+2/3
-x+y+1/3,-x+2/3,z+2/3
-y+1/3,-x+2/3,z+1/6
-x+y+1/3,y+2/3,z+1/6
x+1/3,x-y+2/3,z+1/6
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Nb1 Nb 0.0000 0.0000 0.0000
Li1 Li 0.0000 0.0000 0.2787
O1 O 0.0492 0.3446 0.0647
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
Nb1 0.0040 0.0040 0.0050 0.0020 0 0
Li1 0.0120 0.0120 0.0180 0.0060 0 0
O1 0.0081 0.0066 0.0077 0.0043 -0.0013 -0.0018
"""

BTO_CEL = """# BaTiO3 along [110]
  0   0.56653  0.40060  0.56653 90.00000 90.00000 90.00000
 Ba2+  0.125000 0.250000 0.875000 1.000000 0.004272 0.000000 0.000000 0.000000
 Ba2+  0.625000 0.250000 0.375000 0.900000 0.004272 0.000000 0.000000 0.000000
 Sr2+  0.625000 0.250000 0.375000 0.100000 0.004272 0.000000 0.000000 0.000000
 Ti4+  0.625000 0.750000 0.875000 1.000000 0.006948 0.000000 0.000000 0.000000
  O2-  0.875000 0.750000 0.125000 1.000000 0.005611 0.000000 0.000000 0.000000
  O2-  0.375000 0.750000 0.625000 1.000000 0.005611 0.000000 0.000000 0.000000
*
"""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """The text with each first occurrence of `old` made `new`; each must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def without(text: str, *starts: str) -> str:
    """The text without the lines that start so."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(starts)]
    assert len(kept) < len(lines)
    return "".join(kept)


def read_text(folder, text: str | bytes, suffix: str = ".cif"):
    path = folder / f"crystal{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_unit_cell(path)
