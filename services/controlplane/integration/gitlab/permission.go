package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"skep/services/controlplane"
)

// Roles. https://docs.gitlab.com/api/members/#roles
const (
	reporter   = 20
	developer  = 30
	maintainer = 40
)

type member struct {
	ID         int64  `json:"id"`
	State      string `json:"state"`
	Membership string `json:"membership_state"`
	Access     int    `json:"access_level"`
	Expires    string `json:"expires_at"` // a day, on which the membership is over
}

// Permission is by the role of a direct or inherited member. Guests, planners
// and those who may do something only because the project is public, or because
// they administer GitLab, have PermissionNone.
func (f *Forge) Permission(ctx context.Context, r controlplane.Repository, login string) (controlplane.Permission, error) {
	access, err := f.access(ctx, r, login)
	switch {
	case err != nil:
		return controlplane.PermissionNone, fmt.Errorf("permission of %q on %s: %w", login, r, err)
	case access >= maintainer:
		return controlplane.PermissionAdmin, nil
	case access >= developer:
		return controlplane.PermissionWrite, nil
	case access >= reporter:
		return controlplane.PermissionRead, nil
	}
	return controlplane.PermissionNone, nil
}

func (f *Forge) access(ctx context.Context, r controlplane.Repository, login string) (int, error) {
	var users []user
	if err := f.get(ctx, "users", url.Values{"username": {login}}, &users); err != nil {
		return 0, err
	}
	if len(users) != 1 || !strings.EqualFold(users[0].Username, login) || users[0].ID == 0 || users[0].State != "active" {
		return 0, nil
	}
	var m member
	err := f.get(ctx, project(r, "members", "all", strconv.FormatInt(users[0].ID, 10)), nil, &m)
	if errors.Is(err, controlplane.ErrNotFound) {
		// No member, or no project?
		return 0, f.get(ctx, project(r), nil, nil)
	}
	if err != nil {
		return 0, err
	}
	if m.ID != users[0].ID || m.State != "active" || m.Membership != "" && m.Membership != "active" || f.over(m.Expires) {
		return 0, nil
	}
	return m.Access, nil
}

// over says that a membership has ended, which GitLab cleans up once a day.
func (f *Forge) over(expires string) bool {
	if expires == "" {
		return false
	}
	day, err := time.Parse(time.DateOnly, expires)
	return err != nil || !f.now().Before(day)
}
