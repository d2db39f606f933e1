package webhook

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// outcome is what became of a request, as metrics and log have it.
type outcome string

const (
	stored      outcome = "stored"
	duplicate   outcome = "duplicate"
	unverified  outcome = "unverified"
	unknown     outcome = "unknown"
	badRequest  outcome = "bad_request"
	badMethod   outcome = "bad_method"
	badType     outcome = "bad_type"
	tooLarge    outcome = "too_large"
	full        outcome = "full"
	unavailable outcome = "unavailable"
	aborted     outcome = "aborted"
)

// refusal is an answer that is not 200. Its detail is the same for all who
// cause it and says nothing about the source.
type refusal struct {
	outcome outcome
	status  int
	detail  string
	cause   error // for the log, never for the answer
}

func (r refusal) because(err error) refusal {
	r.cause = err
	return r
}

var (
	refuseSignature = refusal{outcome: unverified, status: http.StatusUnauthorized}
	refuseUnknown   = refusal{outcome: unknown, status: http.StatusNotFound}
	refuseMethod    = refusal{outcome: badMethod, status: http.StatusMethodNotAllowed}
	refuseType      = refusal{outcome: badType, status: http.StatusUnsupportedMediaType, detail: "Send application/json in UTF-8."}
	refuseEncoding  = refusal{outcome: badType, status: http.StatusUnsupportedMediaType, detail: "Send the body without Content-Encoding."}
	refuseSize      = refusal{outcome: tooLarge, status: http.StatusRequestEntityTooLarge}
	refuseTwice     = refusal{outcome: badRequest, status: http.StatusBadRequest, detail: "A header is there more than once."}
	refuseDelivery  = refusal{outcome: badRequest, status: http.StatusBadRequest, detail: "The delivery has no event or no id."}
	refuseBody      = refusal{outcome: aborted, status: http.StatusBadRequest, detail: "The body did not arrive."}
	refuseFull      = refusal{outcome: full, status: http.StatusServiceUnavailable}
	refuseAway      = refusal{outcome: unavailable, status: http.StatusServiceUnavailable}
)

// retryAfter is in seconds, for the providers that read it.
const retryAfter = 10

// write answers as RFC 9457 says.
func (r refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	switch r.status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(struct { // whoever sent it may be gone
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(r.status), r.status, r.detail})
}
