#include "replk/replk.h"

const char* replk_version() { return REPLK_VERSION; }
