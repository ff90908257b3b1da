// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include "tests/unit/shim/names_double.h"

Test(names_go, program_in_c_is_not_go) {
    cr_assert_not(mesh_names_program_is_go());
    cr_assert_not(mesh_names_program_is_go());
}
