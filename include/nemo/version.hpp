// The library's version, in one place.
#pragma once

#define NEMO_VERSION "0.1.0"
