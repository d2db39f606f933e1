package azuredevops

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"skep/services/controlplane"
)

// identity is a person, a service or a group.
type identity struct {
	ID         string `json:"id"`
	Descriptor string `json:"descriptor"`
	Shown      string `json:"providerDisplayName"`
	Active     bool   `json:"isActive"`
	Container  bool   `json:"isContainer"`
	Properties struct {
		Account property `json:"Account"`
		Domain  property `json:"Domain"`
	} `json:"properties"`
}

// property is a text of an extensible object, which has its type beside it.
type property struct {
	Value string `json:"$value"`
}

// name is the unique one where there is one; everybody chooses the other for
// themselves.
func (i identity) name() string {
	if i.Properties.Account.Value != "" {
		return i.Properties.Account.Value
	}
	return i.Shown
}

// is says that a unique name is this identity's: user@example.com, or
// DOMAIN\user at Azure DevOps Server.
func (i identity) is(login string) bool {
	account := i.Properties.Account.Value
	return account != "" && (strings.EqualFold(login, account) || strings.EqualFold(login, i.Properties.Domain.Value+`\`+account))
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Security of Git repositories.
// https://learn.microsoft.com/en-us/azure/devops/organizations/security/namespace-reference
const (
	gitNamespace = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
	administer   = 1 << 0
	read         = 1 << 1
	contribute   = 1 << 2
)

// Permission is what the access control list of the repository gives a person,
// groups and inheritance counted in by the service (effectiveAllow without
// effectiveDeny). A login is an identity's id, a GUID, or its unique name.
//
// It fails closed: whoever is not found, is found more than once, is not active,
// is a group, or is not in the answer has PermissionNone; a token that may not
// look is an error. What is granted on single branches does not count.
func (f *Forge) Permission(ctx context.Context, r controlplane.Repository, login string) (controlplane.Permission, error) {
	allowed, err := f.allowed(ctx, r, login)
	switch {
	case err != nil:
		return controlplane.PermissionNone, fmt.Errorf("permission of %q on %s: %w", login, r, err)
	case allowed&read == 0:
		return controlplane.PermissionNone, nil
	case allowed&contribute == 0:
		return controlplane.PermissionRead, nil
	case allowed&administer == 0:
		return controlplane.PermissionWrite, nil
	}
	return controlplane.PermissionAdmin, nil
}

func (f *Forge) allowed(ctx context.Context, r controlplane.Repository, login string) (int, error) {
	address, err := f.path(r)
	if err != nil {
		return 0, err
	}
	var repository struct {
		ID      string `json:"id"`
		Project struct {
			ID string `json:"id"`
		} `json:"project"`
	}
	if _, err := f.api.Call(ctx, http.MethodGet, address, query(), nil, &repository); err != nil {
		return 0, err
	}
	if !guid.MatchString(repository.ID) || !guid.MatchString(repository.Project.ID) {
		return 0, fmt.Errorf("the repository came without its id")
	}
	person, ok, err := f.find(ctx, login)
	if err != nil || !ok {
		return 0, err
	}
	token := "repoV2/" + repository.Project.ID + "/" + repository.ID
	var lists many[struct {
		Token   string `json:"token"`
		Entries map[string]struct {
			Extended *struct {
				Allow int `json:"effectiveAllow"`
				Deny  int `json:"effectiveDeny"`
			} `json:"extendedInfo"`
		} `json:"acesDictionary"`
	}]
	_, err = f.api.Call(ctx, http.MethodGet, f.in("", "accesscontrollists", gitNamespace),
		query("token", token, "descriptors", person.Descriptor, "includeExtendedInfo", "true"), nil, &lists)
	if err != nil {
		return 0, fmt.Errorf("%w (the token needs the scope Security (Manage))", err)
	}
	if len(lists.Value) != 1 || !strings.EqualFold(lists.Value[0].Token, token) || len(lists.Value[0].Entries) != 1 {
		return 0, nil
	}
	entry, ok := lists.Value[0].Entries[person.Descriptor]
	if !ok || entry.Extended == nil {
		return 0, nil
	}
	return entry.Extended.Allow &^ entry.Extended.Deny, nil
}

// find looks a login up. The search also matches display names, which anybody
// may set to anything: what it finds must carry the login as its unique name.
func (f *Forge) find(ctx context.Context, login string) (identity, bool, error) {
	q := query("searchFilter", "General", "filterValue", login, "queryMembership", "None")
	if guid.MatchString(login) {
		q = query("identityIds", login, "queryMembership", "None")
	}
	var answer many[*identity] // an id that nobody has is null
	if _, err := f.identity.Call(ctx, http.MethodGet, f.in("", "identities"), q, nil, &answer); err != nil {
		return identity{}, false, fmt.Errorf("look up the identity: %w (the token needs the scope Identity (Read))", err)
	}
	var found []identity
	for _, i := range answer.Value {
		if i != nil && (strings.EqualFold(i.ID, login) || i.is(login)) {
			found = append(found, *i)
		}
	}
	if len(found) != 1 || !found[0].Active || found[0].Container || found[0].Descriptor == "" || strings.Contains(found[0].Descriptor, ",") {
		return identity{}, false, nil
	}
	return found[0], true, nil
}
