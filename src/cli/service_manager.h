// What: tells whoever started this as a service (systemd, `Type=notify`) how far it is. Nothing
//   where nobody asks: no $NOTIFY_SOCKET.
// Who owns: pure functions. Thread: any.
#pragma once

#include <string_view>

namespace tg {

// "READY=1", "STOPPING=1". That nobody listens after all is no error.
void tell_service_manager(std::string_view state);

}  // namespace tg
