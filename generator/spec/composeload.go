package spec

import (
	"context"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
)

// composeLoader has compose-go load one stack file.
type composeLoader struct {
	path, name string
	env        map[string]string
	profiles   []string
}

func (l composeLoader) details(file types.ConfigFile) types.ConfigDetails {
	return types.ConfigDetails{WorkingDir: filepath.Dir(l.path), ConfigFiles: []types.ConfigFile{file}, Environment: l.env}
}

func (l composeLoader) options(o *loader.Options) {
	o.SetProjectName(l.name, true)
	o.Profiles = l.profiles
	o.SkipValidation = true // done before, with positions and all problems at once
	o.SkipNormalization = true
	o.SkipDefaultValues = true    // ours are Swarm's
	o.SkipConsistencyCheck = true // ours name the place
	o.Interpolate.Substitute = substitute
}

// whole loads a file that may bring in others.
func (l composeLoader) whole(ctx context.Context, file types.ConfigFile) (*types.Project, error) {
	return loader.LoadWithContext(ctx, l.details(file), l.options)
}

// alone loads a file that brings in no other: its values are all there are.
//
// compose-go matches every value against every pattern that it knows, several
// times, which is most of its time. What it would only carry along is therefore
// set aside, and put back before it makes its project of the model.
func (l composeLoader) alone(ctx context.Context, values map[string]any) (*types.Project, error) {
	rest, extensions := splitExtensions(values)
	services, _ := rest["services"].(map[string]any)
	serviceExtensions := map[string]map[string]any{}
	if services != nil {
		kept := make(map[string]any, len(services))
		for name, v := range services {
			kept[name] = v
			if service, ok := v.(map[string]any); ok {
				kept[name], serviceExtensions[name] = splitExtensions(service)
			}
		}
		rest["services"] = kept
	}

	details := l.details(types.ConfigFile{Filename: l.path})
	options := loader.ToOptions(&details, []func(*loader.Options){l.options})
	interpolated, err := interpolation.Interpolate(rest, interpolation.Options{
		Substitute: substitute, LookupValue: options.Interpolate.LookupValue,
		TypeCastMapping: castsFor(rest, options.Interpolate.TypeCastMapping),
	})
	if err != nil {
		return nil, err
	}
	putBack := setAside(interpolated)
	details = l.details(types.ConfigFile{Filename: l.path, Config: interpolated})
	model, err := loader.LoadModelWithContext(ctx, details, l.options, func(o *loader.Options) {
		// Without SkipInterpolation, which says that values may not be valid yet.
		o.Interpolate = &interpolation.Options{
			Substitute:      func(s string, _ template.Mapping) (string, error) { return s, nil },
			TypeCastMapping: map[tree.Path]interpolation.Cast{},
		}
	})
	if err != nil {
		return nil, err
	}
	putBack(model)
	project, err := projectOf(model, options, details)
	if err != nil {
		return nil, err
	}

	if project.Extensions, err = interpolate(extensions, l.env); err != nil {
		return nil, err
	}
	for name, service := range project.Services {
		if service.Extensions, err = interpolate(serviceExtensions[name], l.env); err != nil {
			return nil, err
		}
		project.Services[name] = service
	}
	return project, nil
}

// servicesAtOnce is how many services are worth a processor of their own.
const servicesAtOnce = 16

// projectOf is loader.ModelToProject, the services of a large stack in parts
// beside each other: without the consistency check no service looks at another.
func projectOf(model map[string]any, options *loader.Options, details types.ConfigDetails) (*types.Project, error) {
	services, _ := model["services"].(map[string]any)
	parts := min(runtime.GOMAXPROCS(0), len(services)/servicesAtOnce)
	if parts < 2 {
		return loader.ModelToProject(model, options, details)
	}
	models := make([]map[string]any, parts)
	for i := range models {
		models[i] = map[string]any{"services": map[string]any{}}
	}
	for i, name := range slices.Sorted(maps.Keys(services)) {
		models[i%parts]["services"].(map[string]any)[name] = services[name]
	}
	for key, section := range model {
		if key != "services" {
			models[0][key] = section
		}
	}
	projects, errs := make([]*types.Project, parts), make([]error, parts)
	var group sync.WaitGroup
	for i := range models {
		group.Go(func() { projects[i], errs[i] = loader.ModelToProject(models[i], options, details) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for _, part := range projects[1:] {
		maps.Copy(projects[0].Services, part.Services)
		maps.Copy(projects[0].DisabledServices, part.DisabledServices)
	}
	return projects[0], nil
}

// carried are keys of a service below which compose-go neither rewrites a value
// nor resolves a path. TestCarriedKeys holds them against it.
var carried = []string{
	"annotations", "command", "container_name", "deploy", "entrypoint", "environment", "healthcheck", "hostname", "image", "init",
	"labels", "logging", "mem_limit", "privileged", "read_only", "restart", "stdin_open", "stop_grace_period", "stop_signal", "tty",
	"user", "working_dir",
}

// setAside takes what compose-go only carries along out of the services, and
// returns how to put it back.
func setAside(values map[string]any) (putBack func(model map[string]any)) {
	services, _ := values["services"].(map[string]any)
	aside := map[string]map[string]any{}
	for name, v := range services {
		service, ok := v.(map[string]any)
		if !ok {
			continue
		}
		aside[name] = map[string]any{}
		for _, key := range carried {
			if v, ok := service[key]; ok {
				aside[name][key] = v
				delete(service, key)
			}
		}
	}
	return func(model map[string]any) {
		services, _ := model["services"].(map[string]any)
		for name, v := range services {
			if service, ok := v.(map[string]any); ok {
				maps.Copy(service, aside[name])
			}
		}
	}
}

// alone reports whether the file brings in no other.
func (d *document) alone() bool {
	if d.tagged || d.values["include"] != nil {
		return false
	}
	services, _ := d.values["services"].(map[string]any)
	for _, v := range services {
		if service, _ := v.(map[string]any); service["extends"] != nil {
			return false
		}
	}
	return true
}

func splitExtensions(m map[string]any) (rest, extensions map[string]any) {
	rest, extensions = make(map[string]any, len(m)), map[string]any{}
	for k, v := range m {
		if strings.HasPrefix(k, "x-") {
			extensions[k] = v
		} else {
			rest[k] = v
		}
	}
	return rest, extensions
}

// castsFor keeps the casts whose last key the file has.
func castsFor(values map[string]any, casts map[tree.Path]interpolation.Cast) map[tree.Path]interpolation.Cast {
	keys := map[string]bool{tree.PathMatchAll: true}
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, item := range v {
				keys[k] = true
				collect(item)
			}
		case []any:
			for _, item := range v {
				collect(item)
			}
		}
	}
	collect(values)
	out := map[tree.Path]interpolation.Cast{}
	for path, cast := range casts {
		if keys[path.Last()] {
			out[path] = cast
		}
	}
	// A pattern that ends in * stands for a key of its parent.
	for path := range out {
		if path.Last() == tree.PathMatchAll && !keys[path.Parent().Last()] {
			delete(out, path)
		}
	}
	return out
}

// substitute interpolates as Compose does; most strings have nothing to
// interpolate and skip its regular expression.
func substitute(s string, lookup template.Mapping) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	return template.Substitute(s, lookup)
}
