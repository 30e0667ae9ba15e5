#!/bin/sh
# Builds the kernels for 64-bit Arm with the Clang of ziglang, and lays beside them a Python of that architecture that
# qemu-user can run: arm.sh FOLDER. Then FOLDER/python runs anything on it. For Debian 12 with the package qemu-user;
# PYTHON names a Python 3.11 with nanobind, CMake and Ninja. Nothing outside of FOLDER is changed.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"/debs "$1"/site
folder=$(cd "$1" && pwd)
cd "$folder"

# Debian's own Python 3.11 and what it loads. Both architectures have the same versions, in the same places.
if [ ! -e root/usr/bin/python3.11 ]; then
  for package in python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g libexpat1 libssl3 libffi8 \
    libbz2-1.0 liblzma5 libsqlite3-0 libgcc-s1 libstdc++6 libcrypt1 libuuid1; do
    apt-get download --print-uris "$package" | cut -d"'" -f2 | sed 's/_[a-z0-9]*\.deb$/_arm64.deb/'
  done | (cd debs && xargs -n 1 curl -sfO)
  for package in debs/*.deb; do dpkg -x "$package" root; done
fi
"$PYTHON" -m pip install --quiet --upgrade --target site --only-binary :all: --python-version 3.11 --implementation cp \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
  "numpy==$("$PYTHON" -c 'import numpy; print(numpy.__version__)')" pytest pytest-timeout hypothesis
"$PYTHON" -m pip install --quiet --upgrade --target zig 'ziglang>=0.13,<0.16'

cat > c++ <<EOF
#!/bin/sh
PYTHONPATH="$folder/zig" exec "$PYTHON" -m ziglang c++ -target aarch64-linux-gnu.2.36 "\$@"
EOF
cat > python <<EOF
#!/bin/sh
PYTHONPATH="$folder/site" exec qemu-aarch64 -cpu max -L "$folder/root" "$folder/root/usr/bin/python3.11" "\$@"
EOF
chmod +x c++ python
cmake -S "$here" -B build -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER="$folder/c++" -DPython_EXECUTABLE="$PYTHON" \
  -Dnanobind_DIR="$("$PYTHON" -m nanobind --cmake_dir)" > cmake.log
ninja -C build > ninja.log
rm -rf site/pairscore_kernels
cp -r "$here/src/pairscore_kernels" site/
cp build/_core.*.so site/pairscore_kernels/_core.so
