package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// rotate gives the Swarm the versions that the store of secrets has, and has
// the services updated that use others.
func (a *attempt) rotate(ctx context.Context) error {
	if _, ok := a.w.Environment["OP_CONNECT_HOST"]; !ok {
		return a.fail(errors.New("this worker reaches no store of secrets: set OP_CONNECT_HOST and OP_CONNECT_TOKEN_FILE"))
	}
	args := []string{"secrets", "rotate", "--undo", "--json"}
	for _, stack := range a.stacks() {
		args = append(args, "--stack", stack)
	}
	exit, err := a.ask(ctx, "rotate", true, args...)
	if err != nil {
		return err
	}
	var said struct {
		Deployed []string `json:"deployed"`
	}
	if exit.Code != exitDone || json.Unmarshal(exit.Answer, &said) != nil {
		return a.broken("skep secrets rotate", exit)
	}
	if len(said.Deployed) == 0 {
		a.result.Summary = "every service has the secrets that it should"
		return nil
	}
	a.result.Deployed, a.result.Changes = true, true
	a.result.Summary = fmt.Sprintf("secrets rotated in %s: %s", count(len(said.Deployed), "stack"), strings.Join(said.Deployed, ", "))
	return nil
}
