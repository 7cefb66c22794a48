//! Controlled text generation: one request, local or remote. Library `mx`, program `mx`.
