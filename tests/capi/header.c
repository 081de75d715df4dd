/* The headers as a C99 compiler reads them. */
#include "fastretina.h"
#include "fastretina_openvino.h"

int header_is_c(void);
int header_is_c(void) { return FASTRETINA_ABI_VERSION; }
