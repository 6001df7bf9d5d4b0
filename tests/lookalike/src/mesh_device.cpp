// SPDX-License-Identifier: Apache-2.0
//! Opening, dividing and closing a mesh.

#include "mesh_device.hpp"

#include <atomic>

#include "truth.hpp"

namespace tt::tt_metal::distributed {

namespace {

/// Mesh ids count up from 0 over the life of the process, as chip ids do within a mesh: the two collide.
std::atomic<int> next_mesh_id = 0;

}  // namespace

MeshDeviceImpl::ScopedDevices::ScopedDevices(std::uint32_t chips) {
    for (std::uint32_t chip = 0; chip < chips; ++chip) {
        devices.push_back(std::make_unique<Device>(static_cast<int>(chip)));
        devices.back()->initialize(1, 0, 0, 0, {}, false);
    }
}

MeshDeviceImpl::ScopedDevices::~ScopedDevices() {
    for (auto& device : devices) {
        device->close();
    }
}

MeshDeviceImpl::MeshDeviceImpl(
    std::shared_ptr<ScopedDevices> scoped_devices, std::uint32_t first, std::uint32_t chips) :
    scoped_devices_(std::move(scoped_devices)), mesh_id_(next_mesh_id++), allocator_(std::make_unique<AllocatorImpl>()) {
    for (std::uint32_t chip = first; chip < first + chips; ++chip) {
        devices_.push_back(scoped_devices_->devices.at(chip).get());
    }
}

MeshDeviceImpl::~MeshDeviceImpl() = default;
ARCH MeshDeviceImpl::arch() const { return ARCH::BLACKHOLE; }
int MeshDeviceImpl::id() const { return mesh_id_; }
std::uint64_t MeshDeviceImpl::build_id() const { return 0; }
std::uint8_t MeshDeviceImpl::num_hw_cqs() const { return 1; }
bool MeshDeviceImpl::is_initialized() const { return initialized_; }
bool MeshDeviceImpl::initialize(
    std::uint8_t, std::size_t, std::size_t, std::size_t, std::span<const std::uint32_t>, bool) {
    initialized_ = true;
    return true;
}
bool MeshDeviceImpl::close() { return close_impl(nullptr); }
bool MeshDeviceImpl::close_impl(MeshDevice*) {
    if (!initialized_) {
        return false;
    }
    allocator_->deallocate_buffers();
    lookalike::note(lookalike::Action::BULK, mesh_id_);
    initialized_ = false;
    lookalike::note(lookalike::Action::CLOSED, mesh_id_);
    scoped_devices_.reset();
    return true;
}
AllocatorImpl* MeshDeviceImpl::allocator_impl() const { return allocator_.get(); }
SubDeviceManagerId MeshDeviceImpl::get_active_sub_device_manager_id() const { return SubDeviceManagerId(0); }

void MeshDeviceImpl::cache_program(std::shared_ptr<Buffer> buffer) { program_cache_.push_back(std::move(buffer)); }
void MeshDeviceImpl::disable_and_clear_program_cache() { program_cache_.clear(); }

MeshDevice::MeshDevice(std::unique_ptr<MeshDeviceImpl> impl) : pimpl_(std::move(impl)) {}
// As in TT-Metal, not by way of close(): a mesh that is only dropped never enters that.
MeshDevice::~MeshDevice() { pimpl_->close_impl(this); }

std::shared_ptr<MeshDevice> MeshDevice::create(const MeshShape& shape) {
    auto scoped_devices = std::make_shared<MeshDeviceImpl::ScopedDevices>(shape.chips);
    auto mesh = std::make_shared<MeshDevice>(
        std::make_unique<MeshDeviceImpl>(std::move(scoped_devices), /*first=*/0, shape.chips));
    mesh->initialize(1, 0, 0, 0, {}, false);
    return mesh;
}

std::shared_ptr<MeshDevice> MeshDevice::create_submesh(
    const MeshShape& shape, const std::optional<MeshCoordinate>& offset) {
    const std::uint32_t first = offset ? offset->first : 0;
    if (!is_initialized() || first + shape.chips > get_devices().size()) {
        fatal("mesh is closed, or smaller than the submesh");
    }
    auto submesh = std::make_shared<MeshDevice>(
        std::make_unique<MeshDeviceImpl>(pimpl_->scoped_devices(), first, shape.chips));
    submesh->initialize(1, 0, 0, 0, {}, false);
    return submesh;
}

ARCH MeshDevice::arch() const { return pimpl_->arch(); }
int MeshDevice::id() const { return pimpl_->id(); }
std::uint64_t MeshDevice::build_id() const { return pimpl_->build_id(); }
std::uint8_t MeshDevice::num_hw_cqs() const { return pimpl_->num_hw_cqs(); }
bool MeshDevice::is_initialized() const { return pimpl_->is_initialized(); }
bool MeshDevice::initialize(
    std::uint8_t num_hw_cqs,
    std::size_t l1_small_size,
    std::size_t trace_region_size,
    std::size_t worker_l1_size,
    std::span<const std::uint32_t> l1_bank_remap,
    bool minimal) {
    return pimpl_->initialize(num_hw_cqs, l1_small_size, trace_region_size, worker_l1_size, l1_bank_remap, minimal);
}
bool MeshDevice::close() { return pimpl_->close_impl(this); }
AllocatorImpl* MeshDevice::allocator_impl() const { return pimpl_->allocator_impl(); }
SubDeviceManagerId MeshDevice::get_active_sub_device_manager_id() const {
    return pimpl_->get_active_sub_device_manager_id();
}
const std::vector<Device*>& MeshDevice::get_devices() const { return pimpl_->devices(); }
void MeshDevice::cache_program(std::shared_ptr<Buffer> buffer) { pimpl_->cache_program(std::move(buffer)); }
void MeshDevice::disable_and_clear_program_cache() { pimpl_->disable_and_clear_program_cache(); }

}  // namespace tt::tt_metal::distributed
