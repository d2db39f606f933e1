package api

import (
	"context"
	"net/http"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// Token lets a program in. Its text is shown once, by skep-server token create.
type Token struct {
	Name    controlplane.Name    `json:"name"`
	Scopes  []controlplane.Scope `json:"scopes" nullable:"false"`
	Created time.Time            `json:"created"`
	Expires *time.Time           `json:"expires,omitempty"`
	Revoked *time.Time           `json:"revoked,omitempty"`
	Used    *time.Time           `json:"used,omitempty" doc:"To the minute"`
}

func showToken(t controlplane.Token) Token {
	return Token{
		Name: t.Name, Scopes: append([]controlplane.Scope{}, t.Scopes...), Created: t.Created.UTC(),
		Expires: timestamp(t.Expires), Revoked: timestamp(t.Revoked), Used: timestamp(t.Used),
	}
}

// AuditRow is about one call that could change something.
type AuditRow struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Target  string    `json:"target"`
	Outcome string    `json:"outcome" doc:"done, denied or failed"`
	Request string    `json:"request" doc:"The id of the request, as the log has it"`
}

func showAudit(a controlplane.Audit) AuditRow {
	return AuditRow{ID: a.ID, At: a.At.UTC(), Actor: a.Actor, Action: a.Action, Target: a.Target, Outcome: a.Outcome, Request: a.Request}
}

func (a *API) accessRoutes() {
	register(a, operation{
		id: "token.list", method: http.MethodGet, path: "/tokens", summary: "List tokens, the newest first", scope: controlplane.ScopeAdmin,
	}, func(ctx context.Context, in *Paging) (*Reply[Page[Token]], error) {
		before, err := in.number("tokens")
		if err != nil {
			return nil, err
		}
		found, next, err := a.options.Store.ListTokens(ctx, store.Page{Before: before, Limit: in.Limit})
		return reply(numbered("tokens", found, next, showToken), err)
	})
	register(a, operation{
		id: "token.revoke", method: http.MethodDelete, path: "/tokens/{name}", summary: "End a token",
		scope: controlplane.ScopeAdmin, status: http.StatusNoContent,
	}, func(ctx context.Context, in *ByName) (*nothing, error) {
		return done(a.options.Store.RevokeToken(ctx, in.Name))
	})
	register(a, operation{
		id: "audit.list", method: http.MethodGet, path: "/audit", summary: "List who changed what, the latest first", scope: controlplane.ScopeAdmin,
	}, func(ctx context.Context, in *struct {
		Paging
		Actor string `query:"actor" maxLength:"300" doc:"As in token/ci"`
	}) (*Reply[Page[AuditRow]], error) {
		list := filters("audit", in.Actor)
		before, err := in.number(list)
		if err != nil {
			return nil, err
		}
		found, next, err := a.options.Store.ListAudit(ctx, in.Actor, store.Page{Before: before, Limit: in.Limit})
		return reply(numbered(list, found, next, showAudit), err)
	})
}
