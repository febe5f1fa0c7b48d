// What: the filters on lists and dicts; filters.cpp has them in its table.
// Who owns: pure functions. Thread: any.
#pragma once

#include "text/jinja/builtins.h"

namespace tg::jinja::filters {

using Filter = Result<Value>(const Value& subject, const Arguments& arguments, Meter& meter);

Filter batch, dictsort, first, items, join, last, length, list, map, max, min, reject, rejectattr,
    reverse, select, selectattr, slice, sort, sum, unique;

}  // namespace tg::jinja::filters
