package salesforce

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Error is why Salesforce lets nobody in: RFC 6749, 5.2, with what to do. It is
// controlplane.ErrDenied.
type Error struct {
	Code        string
	Description string
	Remedy      string
}

func (e *Error) Error() string {
	text := e.Code
	if e.Description != "" {
		text += ": " + e.Description
	}
	return text + ": " + e.Remedy
}

// Is says that nobody was let in.
func (e *Error) Is(target error) bool { return target == controlplane.ErrDenied }

// remedies go by the code and, where one code stands for many things, by words
// of the description; the first that fits counts.
var remedies = []struct{ code, words, remedy string }{
	{"invalid_grant", "approved this consumer", "pre-authorize the user: Setup, Manage Connected Apps, the app, Edit Policies: Permitted Users is Admin approved users are pre-authorized; then add the user's profile or a permission set"},
	{"invalid_grant", "access/refresh token", "the refresh token has expired, was revoked, or five newer approvals took its place: authorize again and rotate the integration, or use the JWT bearer flow"},
	{"invalid_grant", "expired authorization code", "the assertion had expired when it came: set the clock of this machine"},
	{"invalid_grant", "udience", "the assertion is for another login server: check environment, login_url and audience"},
	{"invalid_grant", "invalid assertion", "the private key is not that of the connected app's certificate, or client_id or username are mistyped"},
	{"invalid_grant", "ip restricted", "the address of this machine is not allowed: relax the connected app's IP restrictions or add the address to the user's profile"},
	{"invalid_grant", "authentication failure", "the user may not sign in here, or their password has changed: check environment and login_url, then the user's login history in Setup"},
	{"invalid_grant", "", "the user's login history in Setup says why"},
	{"inactive_user", "", "the user is not active: activate them in Setup, Users, or name another one"},
	{"inactive_org", "", "the organization is closed, locked or suspended: its owner must ask Salesforce"},
	{"invalid_app_access", "", "the user is not approved for the connected app: add their profile or a permission set to it"},
	{"invalid_client_id", "", "there is no connected app with this client_id at this login server; a new one takes up to ten minutes, and a sandbox has its own"},
	{"invalid_client", "", "client_secret is not the connected app's: copy it again and rotate the integration"},
	{"unsupported_grant_type", "", "the flow is not enabled: turn it on in the connected app's OAuth settings"},
	{"unauthorized_client", "", "the flow is not allowed for the connected app: turn it on in its OAuth settings"},
	{"invalid_scope", "", "the connected app lacks a scope: give it api, id and refresh_token"},
}

func remedy(code, description string) string {
	for _, r := range remedies {
		if r.code == code && strings.Contains(description, r.words) {
			return r.remedy
		}
	}
	return "see Salesforce's list of OAuth errors"
}

// temporary are Salesforce's words for an accident of its own.
var temporary = []string{"unknown_error", "server_error", "temporarily_unavailable"}

// checkToken reads the answer of the token endpoint if it is an error.
func checkToken(r *http.Response) error {
	if r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusUnauthorized && r.StatusCode != http.StatusForbidden {
		return integration.CheckResponse(r)
	}
	defer r.Body.Close()
	var answer struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&answer); err != nil || answer.Code == "" {
		return &integration.StatusError{Method: http.MethodPost, Path: r.Request.URL.Path, Status: r.StatusCode}
	}
	e := &Error{Code: integration.Line(answer.Code, 60), Description: integration.Line(answer.Description, 200)}
	e.Remedy = remedy(e.Code, e.Description)
	if slices.Contains(temporary, e.Code) {
		return &controlplane.RetryError{After: 30 * time.Second, Err: errors.New(e.Code + ": " + e.Description)}
	}
	return e
}
