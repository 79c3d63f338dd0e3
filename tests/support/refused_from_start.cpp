// Linked into a test, runs all of it without executable memory; the loader has done its work by then.
#include "tests/support/refuse_code.hpp"

static const bool refused = replk::test::refuse_code();
