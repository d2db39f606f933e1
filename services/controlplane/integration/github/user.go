package github

import (
	"context"
	"net/http"
	"sync"

	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane/integration"
)

// user signs in with a personal access token.
type user struct {
	credentials integration.Credentials

	mu sync.Mutex
	me self
}

func (u *user) authorize(r *http.Request) error {
	return u.credentials(r.Context(), func(v integration.Values) error {
		token, err := v.Bytes(Token)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+string(token))
		return nil
	})
}

// renew: there is nothing but the token.
func (u *user) renew(*http.Response) bool { return false }

func (u *user) self(ctx context.Context, api *gh.Client) (self, error) {
	u.mu.Lock()
	me := u.me
	u.mu.Unlock()
	if me.id != 0 {
		return me, nil
	}
	found, _, err := api.Users.Get(ctx, "")
	if err != nil {
		return self{}, err
	}
	me = self{id: found.GetID(), login: found.GetLogin()}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.me = me
	return me, nil
}

func (u *user) test(ctx context.Context, api *gh.Client) (string, error) {
	found, _, err := api.Users.Get(ctx, "")
	if err != nil {
		return "", err
	}
	return "user " + found.GetLogin(), nil
}
